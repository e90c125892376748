"""Draw the structures that are predicted to lose least within the budget, measured as whole networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...op_library.structure import Structure
from ...transformer.contracts.budget import Budget
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, Pass, PassResult, Share
from ...transformer.errors import InfeasibleError
from ..latency.records import NetworkLatencyRecord
from ..selecting.select import MARGIN
from .chain import ChainDesign, ChainProblem, least_cost, solve_chain
from .master import master_of
from .perturb import PerturbPass
from .records import DesignRecord, Fit, GradientRecord
from .space import Option, Place, places, structure_of
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
        """Write the designs, the best first.

        Raises:
            InfeasibleError: no structure of the space is within the budget.
        """
        found = places(master_of(context)[0], self.perturb.box)
        gradients = context.store.all(GradientRecord)
        losses = [_predicted(place, gradients, "loss") for place in found]
        problem = chain_of(context, found, losses, 0.0)
        good = self._settle(context, found, problem)
        records = [self._record(context, found, gradients, index, *pair) for index, pair in enumerate(good)]
        with context.store.transaction():
            context.store.delete(DesignRecord)
            for record in records:
                context.store.put(f"{record.index:02d}", record)
        best = records[0]
        return PassResult(
            notes=(
                f"{len(records)} designs inside the budget; the best is predicted to change the loss by "
                f"{best.loss_change:+.4f} and takes {best.ratio:.3f} of the teacher",
                f"{best.border} of its {best.decisions} decisions lie on the border of the space",
                best.structure,
            )
        )

    def _settle(
        self, context: Context, found: Sequence[Place], problem: ChainProblem
    ) -> list[tuple[ChainDesign, float]]:
        """Return designs with their predicted ratios, all of them inside the budget as measured."""
        bench = bench_of(context)
        whole = teacher_ms(context, bench)
        line = self._line(context, found, problem, whole)
        most = self.budget.latency.absolute(whole) / whole * (1 - MARGIN)  # the margin is for noise
        limit, seen = most, dict[tuple[int, ...], tuple[ChainDesign, float]]()
        for _ in range(self.rounds):
            drawn = self._solved(problem, (limit - line[1]) / line[0] * whole, whole, line)
            best = drawn[: self.measured]
            time_structures(context, bench, [_structure(found, design) for design in best])
            before = len(seen)
            for design in best:
                seen.setdefault(design.choice, (design, line[0] * design.cost / whole + line[1]))
            ratios = [ratio_of(self._latency(context, found, design)) for design in best]
            if max(ratios) <= most and (max(ratios) >= _NEAR * most or len(seen) == before):
                break  # the second: a larger limit draws the same
            limit *= most / max(ratios) if max(ratios) > most else min(1.1, most / max(ratios))
        inside = [pair for pair in seen.values() if ratio_of(self._latency(context, found, pair[0])) <= most]
        if not inside:
            raise InfeasibleError(
                f"no design was measured inside the budget of {self.budget} in {self.rounds} rounds; give a larger one"
            )
        worst_first = sorted(inside, key=lambda pair: pair[0].objective, reverse=True)
        distinct = {str(_structure(found, design).normalised): (design, ratio) for design, ratio in worst_first}
        return sorted(distinct.values(), key=lambda pair: pair[0].objective)  # of two texts of one network the better

    def _solved(
        self, problem: ChainProblem, limit: float, whole: float, line: tuple[float, float]
    ) -> list[ChainDesign]:
        """Return diverse designs with a table's sum of at most ``limit`` ms."""
        try:
            return solve_chain(replace(problem, limit=limit, solutions=self.solutions, max_overlap=self.max_overlap))
        except InfeasibleError as error:
            least = line[0] * least_cost(problem) / whole + line[1]
            raise InfeasibleError(
                f"no design around this MasterNet is within the budget of {self.budget}; the fastest is predicted to "
                f"take {least:.3f} of the teacher's latency: give a larger budget, or a smaller MasterNet",
                least={"latency": least * whole},
            ) from error

    def _line(
        self, context: Context, found: Sequence[Place], problem: ChainProblem, whole: float
    ) -> tuple[float, float]:
        """Return how the table's sums become whole networks, by those that were measured for it."""
        structures = calibrating(found, self.superblocks.networks, context.seed)
        known = [context.store.get(NetworkLatencyRecord, key_of(one)) for one in structures]
        records = [record for record in known if record is not None]
        totals = [table_ms(problem, found, one) / whole for one in structures]
        return line_of(totals, [ratio_of(record) for record in records])

    def _latency(self, context: Context, found: Sequence[Place], design: ChainDesign) -> NetworkLatencyRecord:
        record = context.store.get(NetworkLatencyRecord, key_of(_structure(found, design)))
        assert record is not None, "it was measured"
        return record

    def _record(
        self,
        context: Context,
        found: Sequence[Place],
        gradients: Mapping[str, GradientRecord],
        index: int,
        design: ChainDesign,
        predicted_ratio: float,
    ) -> DesignRecord:
        options = [place.options[option] for place, option in zip(found, design.choice, strict=True)]
        latency = self._latency(context, found, design)
        pairs = list(zip(found, options, strict=True))
        return DesignRecord(
            index=index,
            structure=str(_structure(found, design)),
            loss_change=design.objective,
            bound=design.bound,
            accuracy_change=predicted_change(found, options, gradients, "accuracy"),
            predicted_ratio=predicted_ratio,
            measured_ms=latency.timing.ms,
            teacher_ms=latency.teacher.ms,
            ratio=ratio_of(latency),
            border=sum(place.on_border(option) for place, option in pairs),
            decisions=sum(2 if place.own.item.superblock else 1 for place in found),
            estimated=latency.timing.estimated,
        )


def predicted_change(
    found: Sequence[Place], options: Sequence[Option], gradients: Mapping[str, GradientRecord], metric: str
) -> float:
    """Return the predicted change of ``loss`` or ``accuracy`` for one option a place."""
    pairs = zip(found, options, strict=True)
    return float(sum(_change(place, option, gradients, metric) for place, option in pairs))


def _structure(found: Sequence[Place], design: ChainDesign) -> Structure:
    return structure_of([place.options[option] for place, option in zip(found, design.choice, strict=True)])


def _predicted(place: Place, gradients: Mapping[str, GradientRecord], metric: str) -> np.ndarray:
    """Return the predicted change of a metric for each option of a place."""
    return np.array([_change(place, option, gradients, metric) for option in place.options])


def _change(place: Place, option: Option, gradients: Mapping[str, GradientRecord], metric: str) -> float:
    fit: Fit = getattr(gradients[f"{place.index}/{option.type}"], metric)
    return fit.at(*place.moves(option))
