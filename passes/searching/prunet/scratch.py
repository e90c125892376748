"""The search from nothing, over a space: operations, stem and head are trained together on labels alone (PruNet, 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ....op_library.gpunet import SpaceNet
from ....transformer.contracts.context import Context
from ....transformer.contracts.pass_ import Count, Factor, PassResult
from ....transformer.errors import UsageError
from ...candidates.records import OperationRecord
from ...latency.measure import measure_network
from ...latency.table import operation_ms
from ...pretraining.records import CandidateRecord
from ...ranking.records import WinnerRecord
from ...selecting.records import SelectionRecord
from ..within import Way
from .prunet import PrunetPass


@dataclass(frozen=True)
class ScratchPass(PrunetPass):
    """Search a space within the budget, which is relative to its widest network; the result is trained from nothing."""

    name: ClassVar[str] = "scratch"
    requires: ClassVar[tuple[str, ...]] = ("operation", "latency", "network_latency")
    ensures: ClassVar[tuple[str, ...]] = ("candidate", "selection", "winner")
    scratch: ClassVar[bool] = True

    solutions: Count = 1
    most: Count = 64
    """Operations, or ladders of widths, that a layer begins with: all, as none is promising before it is trained."""
    features: Factor = 0.0
    """There is no teacher whose features would count: 0."""

    def check(self, context: Context) -> None:
        """Refuse options that do not go together, and a network that is of no space."""
        super().check(context)
        if self.features:
            raise UsageError(f"option features is {self.features:g}, expected 0: a search from nothing has no teacher")
        if not isinstance(context.model, SpaceNet):
            raise UsageError(
                "the search from nothing takes a space, such as space:cifar; give --search prunet for others"
            )

    def run(self, context: Context) -> PassResult:
        """Search, measure, and make the result the winner; its network is told as text.

        Raises:
            UnverifiedError: the device is not here; the selection is stored, its latency is estimated.
        """
        _list_untrained(context)
        result = super().run(context)
        assert isinstance(context.model, SpaceNet), "checked"
        space, choice = context.model.space, next(iter(context.store.all(SelectionRecord).values())).choice
        named = [choice.get(path, place.widest()) for path, place in zip(space.choices, space.places, strict=True)]
        chosen = [
            place.widest() if name == "teacher" else name for name, place in zip(named, space.places, strict=True)
        ]
        return PassResult(notes=(*result.notes, f"gpunet:{space.text(chosen)}"))

    def keep(self, context: Context, way: Way, records: Sequence[SelectionRecord]) -> None:
        """Keep how the search went, and its result as the winner; the weights were for the search only."""
        super().keep(context, way, records)
        best = records[0]
        context.store.put("winner", WinnerRecord.of(best, measure_network(context, best.choice)))


def _list_untrained(context: Context) -> None:
    """Make every operation a candidate as it is initialised; the less time it takes, the worse it counts."""
    store, ms = context.store, operation_ms(context.store)
    listed = {key: record for key, record in store.all(OperationRecord).items() if record.fits}
    known = store.all(CandidateRecord)
    with store.transaction():
        for key, record in listed.items():
            own = ms[listed[f"{record.block}/teacher"].latency_key]
            error = 0.0 if record.operation == "teacher" else max(0.0, 1 - ms[record.latency_key] / max(own, 1e-9))
            candidate = CandidateRecord(block=record.block, operation=record.operation, state="ready", nmse=error)
            if known.get(key) != candidate:
                store.put(key, candidate)
