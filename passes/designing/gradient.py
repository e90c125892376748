"""Fit what depth and width of each type do at each place."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

from ...op_library.structure import Item, Structure
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Pass, PassResult
from .records import GradientRecord, MasterRecord, PerturbationRecord
from .regression import fit
from .space import Option, Place, option_of


@dataclass(frozen=True)
class GradientPass(Pass):
    """Fit a plane through the perturbations of every type at every place."""

    name: ClassVar[str] = "gradient"
    requires: ClassVar[tuple[str, ...]] = ("perturbation",)
    ensures: ClassVar[tuple[str, ...]] = ("gradient",)

    def run(self, context: Context) -> PassResult:
        """Write one record a place and type."""
        master = context.store.get(MasterRecord, "master")
        assert master is not None, "the perturbations are around it"
        found = fitted(Structure.parse(master.structure), list(context.store.all(PerturbationRecord).values()))
        with context.store.transaction():
            context.store.delete(GradientRecord)
            for record in found:
                context.store.put(f"{record.place}/{record.type}", record)
        told = statistics.median(record.loss.r2_left_out for record in found)
        used = sum(record.loss.r2_left_out >= 0 for record in found)
        return PassResult(
            notes=(f"{used} of {len(found)} planes tell more than a mean; median R2, left out: {told:.2f}",)
        )


def fitted(master: Structure, perturbations: list[PerturbationRecord]) -> list[GradientRecord]:
    """Return the planes, against the MasterNet's own block of each place that was trained as the others were."""
    groups = defaultdict[tuple[int, str], list[PerturbationRecord]](list)
    for record in perturbations:
        groups[record.place, record.type].append(record)
    return [
        _fitted(Place(place, option_of(master.items[place]), ()), records, groups)
        for (place, _), records in sorted(groups.items())
    ]


def _fitted(
    place: Place, records: list[PerturbationRecord], groups: dict[tuple[int, str], list[PerturbationRecord]]
) -> GradientRecord:
    reference = next(record for record in groups[place.index, place.own.type] if record.reference)
    moves = [place.moves(Option(Item(record.type, record.width), record.type, record.depth)) for record in records]
    return GradientRecord(
        place=place.index,
        type=records[0].type,
        samples=len(records),
        loss=fit(moves, [record.loss - reference.loss for record in records]),
        accuracy=fit(moves, [record.accuracy - reference.accuracy for record in records]),
    )
