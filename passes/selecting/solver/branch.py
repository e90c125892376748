"""Exact answers where relaxation and local search do not settle it: branch and cut (HiGHS) on what can still matter."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import highspy
import numpy as np
from numpy.typing import NDArray

from ....transformer.errors import InfeasibleError
from .highs import quiet_highs
from .instance import Floats, Instance, Ints
from .limits import holds

MOST_ROUNDS = 1000


@dataclass(frozen=True, eq=False)
class Answer:
    """What branch and cut found and proved."""

    entries: Ints | None
    """The best selection, shape (N,); None if none was found."""
    bound: float
    """Lower bound on the objective of every selection; infinite if there is none."""


def branch(
    instance: Instance,
    earlier: NDArray[np.int64],
    entries: Ints,
    gap: float = 0.0,
    nodes: int | None = None,
    any_will_do: bool = False,
) -> Answer:
    """Minimise the loss over ``entries`` under the limits and the overlap with ``earlier`` selections, shape (K, N).

    A solution that holds a limit only within the solver's tolerance is excluded and the program solved again.

    Args:
        instance: scaled.
        earlier: selections as entries.
        entries: the entries that may be used, at least one of each block.
        gap: relative gap at which to stop; 0 for the optimum.
        nodes: most nodes, None for no limit; a count, not a time, so that the answer is always the same.
        any_will_do: stop at the first selection.

    Raises:
        InfeasibleError: the limits are so narrow that rounding decides them.
    """
    highs = _model(instance, earlier, entries)
    highs.setOptionValue("mip_rel_gap", gap)
    if nodes is not None:
        highs.setOptionValue("mip_max_nodes", nodes)
    if any_will_do:
        highs.setOptionValue("mip_max_improving_sols", 1)
    block = instance.block[entries]
    start = np.searchsorted(block, np.arange(instance.blocks + 1))
    for _ in range(MOST_ROUNDS):
        highs.run()
        status = highs.getModelStatus()
        if status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible):
            return Answer(None, np.inf)
        info = highs.getInfo()
        bound = float(info.mip_dual_bound) - 1e-12 * instance.blocks
        if info.primal_solution_status != 2:
            return Answer(None, bound)
        value = np.array(highs.getSolution().col_value)
        chosen = np.array([b + int(value[b:e].argmax()) for b, e in pairwise(start)])
        if holds(instance, entries[chosen]):
            return Answer(entries[chosen], bound)
        ones = np.ones(instance.blocks)
        highs.addRow(-highspy.kHighsInf, instance.blocks - 1.0, instance.blocks, chosen.astype(np.int32), ones)
    raise InfeasibleError(
        f"no selection found that holds the limits exactly in {MOST_ROUNDS} tries; widen the narrowest range"
    )


def _model(instance: Instance, earlier: NDArray[np.int64], entries: Ints) -> highspy.Highs:
    highs = quiet_highs()
    options: dict[str, bool | float | str] = {
        "threads": 1,
        "mip_abs_gap": 0.0,
        "mip_feasibility_tolerance": 1e-9,
        "primal_feasibility_tolerance": 1e-9,
        "dual_feasibility_tolerance": 1e-9,
        "small_matrix_value": 1e-12,
    }
    for name, value in options.items():
        highs.setOptionValue(name, value)
    count = len(entries)
    highs.addVars(count, np.zeros(count), np.ones(count))
    every = np.arange(count, dtype=np.int32)
    highs.changeColsCost(count, every, instance.loss[entries])
    highs.changeColsIntegrality(count, every, np.full(count, highspy.HighsVarType.kInteger))
    block = instance.block[entries]
    for b in range(instance.blocks):
        _row(highs, 1.0, 1.0, np.flatnonzero(block == b), np.ones(int((block == b).sum())))
    for c in range(len(instance.names)):
        _row(highs, float(instance.low[c]), float(instance.high[c]), every, instance.cost[c, entries])
    place = np.full(len(instance.block), -1)
    place[entries] = every
    for selection in earlier:
        at = place[selection]
        at = at[at >= 0]
        if len(at) > instance.overlap:
            _row(highs, -highspy.kHighsInf, float(instance.overlap), at, np.ones(len(at)))
    return highs


def _row(highs: highspy.Highs, low: float, high: float, index: NDArray[np.integer], value: Floats) -> None:
    highs.addRow(low, high, len(index), index.astype(np.int32), value)
