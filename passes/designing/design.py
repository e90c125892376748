"""Draw the structures that are predicted to lose least within the budget, measured as whole networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...op_library.structure import Structure
from ...transformer.contracts.budget import Budget
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, Pass, PassResult, Share
from ...transformer.errors import InfeasibleError
from ..latency.records import NetworkLatencyRecord
from ..networks.resolution import Size, size_of
from ..selecting.select import MARGIN
from .chain import ChainDesign, ChainProblem, least_cost, solve_chain
from .limits import further_limits
from .master import master_of
from .perturb import PerturbPass
from .records import DesignRecord, Fit, GradientRecord, ResolutionRecord
from .space import Option, Place, mark, places, structure_of
from .superblocks import SuperblocksPass, calibrating, chain_of, table_ms
from .timing import bench_of, key_of, line_of, ratio_of, teacher_ms, time_structures

_NEAR = 0.97
"""Of the budget: where the slowest of the best is below it, accuracy was given away."""


@dataclass(frozen=True)
class DesignPass(Pass):
    """Solve the chain program, measure the best designs as whole networks, correct the limit and solve again.

    What is kept are designs that are inside the budget as measured, those first that are predicted to lose least.
    """

    name: ClassVar[str] = "design"
    requires: ClassVar[tuple[str, ...]] = ("gradient", "cost", "network_latency")
    ensures: ClassVar[tuple[str, ...]] = ("design",)

    budget: Budget = Budget()
    solutions: Count = 20
    """Diverse designs that are drawn (K)."""
    max_overlap: Share = 0.7
    """Share of the places at which two designs may have the same."""
    measured: Count = 4
    """Of the best, as whole networks, each time."""
    rounds: Count = 6
    """Times that the limit is corrected, at most."""
    perturb: PerturbPass = PerturbPass()
    """Whose space it is."""
    superblocks: SuperblocksPass = SuperblocksPass()
    """Whose whole networks the sums are put right by."""

    def run(self, context: Context) -> PassResult:
        """Write the designs of each size of images, the best first; a size may be without any.

        Raises:
            InfeasibleError: no structure of the space is within the budget, at any size.
        """
        records, rows, failed = list[DesignRecord](), list[ResolutionRecord](), None
        for size in self.superblocks.sizes(context):
            try:
                drawn = self._drawn(context, size, len(records))
            except InfeasibleError as error:
                failed = error
                rows.append(ResolutionRecord(size=size, designs=0, reason=str(error)))
                continue
            records += drawn
            rows.append(ResolutionRecord(size=size, designs=len(drawn)))
        if failed is not None and not records:
            raise failed
        with context.store.transaction():
            context.store.delete(DesignRecord)
            context.store.delete(ResolutionRecord)
            for record in records:
                context.store.put(f"{record.index:02d}", record)
            for row in rows:
                context.store.put(mark(row.size or size_of(context)), row)
        return PassResult(notes=tuple(_notes(context, records, rows)))

    def _drawn(self, context: Context, size: Size | None, first: int) -> list[DesignRecord]:
        """Return the designs for images of a size, numbered from ``first`` on."""
        found = places(master_of(context)[0], self.perturb.box)
        gradients = context.store.all(GradientRecord)
        losses = [_predicted(place, gradients, "loss") for place in found]
        problem = chain_of(context, found, losses, 0.0, size)
        further = further_limits(context, self.budget, found, size)
        space = _Space(context, size, found, replace(problem, further=further))
        good = self._settle(space)
        return [_record(space, gradients, first + index, *pair) for index, pair in enumerate(good)]

    def _settle(self, space: _Space) -> list[tuple[ChainDesign, float]]:
        """Return designs with their predicted ratios, all of them inside the budget as measured."""
        bench = bench_of(space.context)
        whole = teacher_ms(space.context, bench)
        line = self._line(space, whole)
        most = self.budget.latency.absolute(whole) / whole * (1 - MARGIN)  # the margin is for noise
        limit, seen = most, dict[tuple[int, ...], tuple[ChainDesign, float]]()
        for _ in range(self.rounds):
            drawn = self._solved(space.problem, (limit - line[1]) / line[0] * whole, whole, line)
            best = drawn[: self.measured]
            time_structures(space.context, bench, [space.structure(design) for design in best], space.size)
            before = len(seen)
            for design in best:
                seen.setdefault(design.choice, (design, line[0] * design.cost / whole + line[1]))
            ratios = [space.ratio(design) for design in best]
            if max(ratios) <= most and (max(ratios) >= _NEAR * most or len(seen) == before):
                break  # the second: a larger limit draws the same
            limit *= most / max(ratios) if max(ratios) > most else min(1.1, most / max(ratios))
        inside = [pair for pair in seen.values() if space.ratio(pair[0]) <= most]
        if not inside:
            raise InfeasibleError(
                f"no design was measured inside the budget of {self.budget} in {self.rounds} rounds; give a larger one"
            )
        worst_first = sorted(inside, key=lambda pair: pair[0].objective, reverse=True)
        distinct = {str(space.structure(design).normalised): (design, ratio) for design, ratio in worst_first}
        return sorted(distinct.values(), key=lambda pair: pair[0].objective)  # of two texts of one network the better

    def _solved(
        self, problem: ChainProblem, limit: float, whole: float, line: tuple[float, float]
    ) -> list[ChainDesign]:
        """Return diverse designs with a table's sum of at most ``limit`` ms."""
        try:
            return solve_chain(replace(problem, limit=limit, solutions=self.solutions, max_overlap=self.max_overlap))
        except InfeasibleError as error:
            if least_cost(problem) <= limit:
                raise InfeasibleError(
                    f"{error}, around this MasterNet: give a larger --limit or budget, or a smaller MasterNet",
                    least=error.least,
                ) from error
            least = line[0] * least_cost(problem) / whole + line[1]
            raise InfeasibleError(
                f"no design around this MasterNet is within the budget of {self.budget}; the fastest is predicted to "
                f"take {least:.3f} of the teacher's latency: give a larger budget, or a smaller MasterNet",
                least={"latency": least * whole},
            ) from error

    def _line(self, space: _Space, whole: float) -> tuple[float, float]:
        """Return how the table's sums become whole networks, by those that were measured for it."""
        structures = calibrating(space.found, self.superblocks.networks, space.context.seed)
        totals = [table_ms(space.problem, space.found, one) / whole for one in structures]
        return line_of(totals, [ratio_of(space.latency(one)) for one in structures])


@dataclass(frozen=True)
class _Space:
    """What is searched: the places, and the program of their losses and costs for images of one size."""

    context: Context
    size: Size | None
    found: Sequence[Place]
    problem: ChainProblem

    def options(self, design: ChainDesign) -> list[Option]:
        return [place.options[option] for place, option in zip(self.found, design.choice, strict=True)]

    def structure(self, design: ChainDesign) -> Structure:
        return structure_of(self.options(design))

    def latency(self, structure: Structure) -> NetworkLatencyRecord:
        record = self.context.store.get(NetworkLatencyRecord, key_of(structure, self.size))
        assert record is not None, "it was measured"
        return record

    def ratio(self, design: ChainDesign) -> float:
        return ratio_of(self.latency(self.structure(design)))


def _record(
    space: _Space, gradients: Mapping[str, GradientRecord], index: int, design: ChainDesign, predicted_ratio: float
) -> DesignRecord:
    options, latency = space.options(design), space.latency(space.structure(design))
    return DesignRecord(
        index=index,
        structure=str(space.structure(design)),
        size=space.size,
        loss_change=design.objective,
        bound=design.bound,
        accuracy_change=predicted_change(space.found, options, gradients, "accuracy"),
        predicted_ratio=predicted_ratio,
        measured_ms=latency.timing.ms,
        teacher_ms=latency.teacher.ms,
        ratio=ratio_of(latency),
        border=sum(place.on_border(option) for place, option in zip(space.found, options, strict=True)),
        decisions=sum(2 if place.own.item.superblock else 1 for place in space.found),
        estimated=latency.timing.estimated,
    )


def _notes(context: Context, records: Sequence[DesignRecord], rows: Sequence[ResolutionRecord]) -> Iterator[str]:
    """Yield what was drawn, of each size of images."""
    for row in rows:
        at = f"{mark(row.size or size_of(context))}: " if len(rows) > 1 else ""
        if row.reason:
            yield f"{at}{row.reason}"
            continue
        best = next(record for record in records if record.size == row.size)
        yield (
            f"{at}{row.designs} designs inside the budget; the best is predicted to change the loss by "
            f"{best.loss_change:+.4f} and takes {best.ratio:.3f} of the teacher"
        )
        yield f"{at}{best.border} of its {best.decisions} decisions lie on the border of the space"
        yield f"{at}{best.structure}"


def predicted_change(
    found: Sequence[Place], options: Sequence[Option], gradients: Mapping[str, GradientRecord], metric: str
) -> float:
    """Return the predicted change of ``loss`` or ``accuracy`` for one option a place."""
    pairs = zip(found, options, strict=True)
    return float(sum(_change(place, option, gradients, metric) for place, option in pairs))


def _predicted(place: Place, gradients: Mapping[str, GradientRecord], metric: str) -> np.ndarray:
    """Return the predicted change of a metric for each option of a place."""
    return np.array([_change(place, option, gradients, metric) for option in place.options])


def _change(place: Place, option: Option, gradients: Mapping[str, GradientRecord], metric: str) -> float:
    fit: Fit = getattr(gradients[f"{place.index}/{option.type}"], metric)
    return fit.at(*place.moves(option))
