"""Fit what depth and width of each type do at each place."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated, ClassVar

from ...op_library.structure import Item, Structure
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Pass, PassResult, one_of
from .presets import FORMS, PRESETS
from .records import GradientRecord, MasterRecord, PerturbationRecord
from .regression import fit
from .space import Option, Place, option_of


@dataclass(frozen=True)
class GradientPass(Pass):
    """Fit a plane through the perturbations of every type at every place."""

    name: ClassVar[str] = "gradient"
    requires: ClassVar[tuple[str, ...]] = ("perturbation",)
    ensures: ClassVar[tuple[str, ...]] = ("gradient",)

    preset: Annotated[str, one_of(PRESETS)] = "auto"
    """Where the form comes from if it is not given: ``auto`` or ``paper``."""
    form: Annotated[str, one_of(FORMS)] | None = None
    """``offset``: against the MasterNet's own block treated alike, by the log of the width; ``published``, as in
    ``paper``: about the MasterNet itself, without an offset."""

    def run(self, context: Context) -> PassResult:
        """Write one record a place and type."""
        master = context.store.get(MasterRecord, "master")
        assert master is not None, "the perturbations are around it"
        published = (self.form or PRESETS[self.preset].form) == "published"
        found = fitted(master, list(context.store.all(PerturbationRecord).values()), published)
        with context.store.transaction():
            context.store.delete(GradientRecord)
            for record in found:
                context.store.put(f"{record.place}/{record.type}", record)
        told = statistics.median(record.loss.r2_left_out for record in found)
        used = sum(record.loss.r2_left_out >= 0 for record in found)
        return PassResult(
            notes=(f"{used} of {len(found)} planes tell more than a mean; median R2, left out: {told:.2f}",)
        )


def fitted(
    master: MasterRecord, perturbations: list[PerturbationRecord], published: bool = False
) -> list[GradientRecord]:
    """Return the planes: in the published form, or against the MasterNet's own block of each place, treated alike."""
    groups = defaultdict[tuple[int, str], list[PerturbationRecord]](list)
    for record in perturbations:
        groups[record.place, record.type].append(record)
    structure = Structure.parse(master.structure)
    return [
        _fitted(Place(place, option_of(structure.items[place]), ()), records, groups, master, published)
        for (place, _), records in sorted(groups.items())
    ]


def _fitted(
    place: Place,
    records: list[PerturbationRecord],
    groups: dict[tuple[int, str], list[PerturbationRecord]],
    master: MasterRecord,
    published: bool,
) -> GradientRecord:
    reference = next(record for record in groups[place.index, place.own.type] if record.reference)
    moves = [place.moves(Option(Item(record.type, record.width), record.type, record.depth)) for record in records]
    losses = [record.loss - reference.loss for record in records]
    accuracies = [record.accuracy - reference.accuracy for record in records]
    return GradientRecord(
        place=place.index,
        type=records[0].type,
        samples=len(records),
        loss=fit(moves, losses, published=published, ahead=reference.loss - master.loss),
        accuracy=fit(moves, accuracies, published=published, ahead=reference.accuracy - master.accuracy),
    )
