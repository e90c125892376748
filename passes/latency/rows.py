"""What is timed together at a site, and how rows of the lookup table follow from it.

The teacher's own block is worth what the window loses when the block is taken out; where it cannot be taken out, its
own time less that of an empty network of the same input and output. Any other operation is worth that plus what the
window gains when the operation takes the block's place. A tied block that is called at several sizes is worth the sum
over its calls; those after the first are timed without neighbours. All are taken round by round relative to the whole
teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ...op_library.tensor_spec import TensorSpec
from ...transformer.contracts.context import Context
from ...transformer.contracts.store import Store
from ...transformer.contracts.timing import Timing
from ...transformer.errors import CaptureError
from ..candidates.build import build_candidate
from ..candidates.records import OperationRecord
from .plan import Plan, Row, SitePlan
from .sites import Site
from .workbench import combined

_ROUNDS, _LEAST_ROUNDS, _MOST_ROUNDS = 15, 60, 120
"""Rounds of a row for each block that it stands for, as its error counts once for each, and their bounds. A row need
not be as certain as the promise: the whole network is measured again anyway."""
GLANCE = 5
"""Rounds that tell which operations are slower than the block's own for certain: some take 100 times as long."""
Weights = tuple[tuple[int, float], ...]


@dataclass(frozen=True, eq=False)
class Formula:
    """A row's time: the weighted sum of timings of its group, plus the row of the site's own block."""

    row: Row
    weights: Weights
    """(index of the module in the group, weight); none for identity, which takes no time by definition."""
    plus: str = ""
    """Key of the row that is added; empty for none."""


@dataclass(frozen=True, eq=False)
class Group:
    """Modules that are timed together with the whole teacher; the first is the site's own block in its place."""

    block: str
    modules: tuple[nn.Module, ...]
    inputs: tuple[Tensor, ...]
    """One for each module, with the target's batch."""
    formulas: tuple[Formula, ...]
    blocks: int
    """How many blocks of the network a row stands for."""

    @property
    def rounds(self) -> int:
        """How many rounds of the stopwatch it is worth at most."""
        return min(_MOST_ROUNDS, max(_LEAST_ROUNDS, _ROUNDS * self.blocks))

    def why_not(self, formula: Formula, reasons: Sequence[str | None]) -> str | None:
        """Return why a row cannot be had where some modules could not be lowered; None if it can.

        Raises:
            CaptureError: it is the site's own block, without which there is no other row.
        """
        failed = [reasons[index] for index, _ in formula.weights if reasons[index] is not None]
        if failed and (reasons[0] is not None or not formula.plus):
            raise CaptureError(f"block {self.block} cannot be timed: {failed[0]}")
        return failed[0] if failed else None


def groups(context: Context, plan: Plan, size: int) -> Iterator[Group]:
    """Yield what is to be timed for the rows of ``plan``, at most ``size`` operations at a time.

    A site's own block comes before the operations that are compared with it.
    """
    for site in plan.sites:
        if site.reference is not None:
            yield _of_own(site, site.reference, context.target.batch_size)
        for start in range(0, len(site.rows), size):
            yield _of_operations(context, site, site.rows[start : start + size])


def row_timing(
    weights: Weights, timings: Mapping[int, Timing], whole: Timing, teacher_ms: float, plus_ms: float | None
) -> Timing:
    """Return a row's time (ms), in units where the whole teacher takes ``teacher_ms``; it may be below zero.

    ``timings`` are of the group's modules by index, ``whole`` is the teacher's of the same rounds. Who uses rows takes
    them from ``operation_ms``, which raises those of one place together.
    """
    if not weights:
        return NOTHING.model_copy(update={"estimated": whole.estimated})
    change = combined([timings[index] for index, _ in weights], [weight for _, weight in weights], whole, teacher_ms)
    return change if plus_ms is None else _shifted(change, plus_ms)


NOTHING = Timing(ms=0.0, low=0.0, high=0.0, trimmed_mean=0.0)
"""The time of identity: the own block's time is defined as what the window loses without it."""


def refuse(store: Store, key: str, reason: str) -> None:
    """Write that the operation of a row does not fit after all, wherever it was listed."""
    for name, record in store.all(OperationRecord).items():
        if record.latency_key == key and record.fits:
            store.put(name, record.model_copy(update={"fits": False, "reason": reason}))


def _of_own(plan: SitePlan, row: Row, size: int) -> Group:
    site, modules, inputs, weights = plan.site, list[nn.Module](), list[Tensor](), list[float]()
    for index, ((entry, leave), count) in enumerate(site.block.distinct_calls):
        if site.block.identity_allowed:
            around = site.window if index == 0 else _alone
            modules += [around(site.block.alone), around(nn.Identity())]
            inputs += [_example(site, index, entry, size)] * 2
            weights += [float(count), -float(count)]
        else:
            modules += [site.block.alone, nn.Identity(), nn.Identity()]
            inputs += [spec.random(size) for spec in (entry, entry, leave)]
            weights += [float(count), -count / 2, -count / 2]
    formula = Formula(row, tuple(enumerate(weights)))
    return Group(site.block.name, tuple(modules), tuple(inputs), (formula,), plan.blocks)


def _of_operations(context: Context, plan: SitePlan, rows: Sequence[Row]) -> Group:
    site, size, calls = plan.site, context.target.batch_size, plan.site.block.distinct_calls
    arounds: list[Callable[[nn.Module], nn.Module]] = [site.window, *[_alone] * (len(calls) - 1)]
    examples = [_example(site, index, entry, size) for index, ((entry, _), _) in enumerate(calls)]
    modules = [around(site.block.alone) for around in arounds]
    own = [(index, -float(count)) for index, (_, count) in enumerate(calls)]
    formulas = []
    for row in rows:
        if site.block.identity_allowed and row.operation == "identity":
            formulas.append(Formula(row, ()))
            continue
        module = _module(context, row)
        gains = [(len(modules) + index, float(count)) for index, (_, count) in enumerate(calls)]
        formulas.append(Formula(row, (*gains, *own), plan.reference_key))
        modules += [around(module) for around in arounds]
    inputs = tuple(examples) * (len(modules) // len(calls))
    return Group(site.block.name, tuple(modules), inputs, tuple(formulas), plan.blocks)


def _alone(module: nn.Module) -> nn.Module:
    """Return ``module`` without neighbours: further calls of a block, over a pyramid say, have theirs elsewhere."""
    return module


def _example(site: Site, index: int, entry: TensorSpec, size: int) -> Tensor:
    return site.example(size) if index == 0 else entry.random(size)


def _module(context: Context, row: Row) -> nn.Module:
    module = build_candidate(row.block, row.spec, context.seed)
    return row.block.alone if module is row.block.module else module


def _shifted(timing: Timing, by: float) -> Timing:
    """Return the timing with ``by`` ms added."""
    names = ("ms", "low", "high", "trimmed_mean")
    moved: dict[str, object] = {name: getattr(timing, name) + by for name in names}
    return timing.model_copy(update=moved | {"samples": tuple(sample + by for sample in timing.samples)})
