"""Fill the lookup table of super-blocks: what each type takes at each place, by the widths before and after it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...op_library.structure import Structure
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, Pass, PassResult, Work
from ...transformer.tools.seeds import derived_seed
from ..latency.estimates import forget_estimates, forget_outdated_estimates
from ..latency.profile import check_not_estimated
from ..latency.workbench import Workbench
from ..networks.resolution import Size, size_of
from .chain import ChainProblem, sums
from .costs import cost_key, cost_table, fitted, rows
from .master import master_of
from .perturb import PerturbPass
from .records import CostRecord
from .space import Place, places, shapes_of, structure_of
from .timing import bench_of, teacher_ms, time_rows, time_structures

_SECONDS_A_ROW = 1.0
"""To lower a part and time it beside the teacher, about."""


@dataclass(frozen=True)
class SuperblocksPass(Pass):
    """Time parts of several widths beside the teacher, fit what lies between, and time a few whole structures."""

    name: ClassVar[str] = "superblocks"
    requires: ClassVar[tuple[str, ...]] = ("master", "perturbation")
    ensures: ClassVar[tuple[str, ...]] = ("latency", "network_latency", "cost")

    perturb: PerturbPass = PerturbPass()
    """Whose space it is."""
    networks: Count = 6
    """Whole structures that put the sums of parts right."""
    resolutions: tuple[Count, ...] = ()
    """Heights of images to design for, in pixels, the width in proportion; by default the teacher's alone."""

    def work(self, context: Context) -> Work:
        """Count the parts and the whole networks; each is lowered and timed beside the teacher."""
        before: tuple[int, ...] = (context.example_inputs[0].shape[1],)
        count, sizes = 0, len(self.sizes(context))
        for place in places(self.perturb.master.parsed(), self.perturb.box):
            count += sum(len(rows(place, before, kind)) for kind in place.types)
            before = place.widths
        what = f"{sizes * count} parts and {sizes * self.networks} networks to time"
        return Work(what, seconds=_SECONDS_A_ROW * sizes * (count + self.networks))

    def run(self, context: Context) -> PassResult:
        """Time what is not yet in the run.

        Raises:
            UnverifiedError: the device is not here; the table is complete, by estimates.
        """
        if context.backend.unavailable(context.target) is None and forget_estimates(context):
            context.store.delete(CostRecord)
        forget_outdated_estimates(context)
        master = master_of(context)[0]
        found = places(master, self.perturb.box)
        bench = bench_of(context)
        teacher_ms(context, bench)
        count, sizes = 0, self.sizes(context)
        if None not in sizes:  # reports set the MasterNet's own parts beside the student's
            count += self._rows(context, bench, master, [_alone(place) for place in found], None)
        for size in sizes:
            count += self._rows(context, bench, master, found, size)
            time_structures(context, bench, calibrating(found, self.networks, context.seed), size)
        records = context.store.all(CostRecord).values()
        worst = float(np.median([record.error for record in records]))
        check_not_estimated(context)
        return PassResult(notes=(f"{count} parts timed; their fits are off by {worst:.0%} at most in the median type",))

    def sizes(self, context: Context) -> list[Size | None]:
        """Return the sizes of images to design for; None stands for the teacher's own."""
        height, width = size_of(context)
        found = [(side, max(1, round(side * width / height))) for side in self.resolutions] or [(height, width)]
        return [None if size == (height, width) else size for size in dict.fromkeys(found)]

    def _rows(
        self, context: Context, bench: Workbench, master: Structure, found: Sequence[Place], size: Size | None
    ) -> int:
        """Time and fit every type at every place for images of this size; return how many parts that were."""
        count = 0
        channels = context.example_inputs[0].shape[1]
        before: tuple[int, ...] = (channels,)
        maps = [shape[1:] for shape in shapes_of(master, channels, size or size_of(context))]
        todo = sum(len(place.types) for place in found)
        with context.progress.task("superblocks", todo) as task:
            for place, of_maps in zip(found, maps[:-1], strict=True):
                for kind in place.types:
                    timed = list(time_rows(context, bench, place, of_maps, rows(place, before, kind)))
                    entry, body, error = fitted([(row, timing.ms) for row, timing in timed])
                    record = CostRecord(
                        place=place.index,
                        type=kind,
                        entry=entry,
                        body=body,
                        rows=len(timed),
                        error=error,
                        estimated=any(timing.estimated for _, timing in timed),
                    )
                    context.store.put(cost_key(place.index, kind, size), record)
                    count += len(timed)
                    task.advance(1, kind)
                before = place.widths
        return count


def _alone(place: Place) -> Place:
    """Return the place with the options of its own type only."""
    return replace(place, options=place.of_type(place.own.type))


def calibrating(found: Sequence[Place], count: int, seed: int) -> list[Structure]:
    """Return structures that are measured as a whole: the MasterNet, the least, and others drawn by the seed."""
    chance = random.Random(derived_seed(seed, "calibrate"))
    least = [min(place.options, key=lambda option: (option.depth, option.item.width)) for place in found]
    drawn = [[place.own for place in found], least]
    drawn += [[chance.choice(place.options) for place in found] for _ in range(count - 2)]
    return [structure_of(options) for options in drawn[:count]]


def chain_of(
    context: Context, found: Sequence[Place], losses: Sequence[np.ndarray], limit: float, size: Size | None = None
) -> ChainProblem:
    """Return the chain of all options, with costs of the lookup table (ms) for images of this size."""
    costs = context.store.all(CostRecord)
    tables, exits = [], []
    before: tuple[int, ...] = (context.example_inputs[0].shape[1],)
    for place in found:
        known = {kind: costs[cost_key(place.index, kind, size)] for kind in place.types}
        pairs = {kind: (record.entry, record.body) for kind, record in known.items()}
        tables.append(cost_table(place, before, pairs))
        exits.append(np.array([place.widths.index(option.item.width) for option in place.options], dtype=np.int64))
        before = place.widths
    return ChainProblem(losses, exits, tables, limit)


def table_ms(problem: ChainProblem, found: Sequence[Place], structure: Structure) -> float:
    """Return the sum of the lookup table for a structure of the space (ms)."""
    items = zip(found, structure.items, strict=True)
    choice = [[option.item for option in place.options].index(item) for place, item in items]
    return sums(problem, choice)[1]
