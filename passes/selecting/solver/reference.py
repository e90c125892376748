"""The reference engine: the integer program as the paper writes it, in PuLP, solved to gap 0 by HiGHS or CBC."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pulp

from ....transformer.errors import InfeasibleError
from .highs import no_output
from .instance import Floats, Instance, Ints
from .limits import alone_infeasible, holds, jointly_infeasible
from .problem import Selection

Solver = Literal["highs", "cbc"]
TOLERANCE = 1e-9


@dataclass(frozen=True)
class _Model:
    """An integer program with its 0/1 variables, one per entry."""

    program: Any
    pick: list[Any]
    scale: float
    """The objective was divided by this, so that absolute tolerances mean the same for every unit."""


def reference_selections(instance: Instance, solver: Solver = "highs") -> Iterator[Selection]:
    """Yield selections, each optimal under the constraints and the overlap with those before it.

    Raises:
        InfeasibleError: not even a first selection exists.
    """
    error = alone_infeasible(instance)
    if error is not None:
        raise error
    model = _model(instance, instance.loss, range(len(instance.names)))
    for count in range(instance.solutions):
        entries = _solve(model, instance, solver)
        if entries is None:
            if count == 0:
                raise jointly_infeasible(instance, lambda c: least_with_others(instance, c, solver))
            return
        yield instance.selection(entries, bound=0.0, optimal=True)
        model.program.addConstraint(pulp.lpSum(model.pick[e] for e in entries) <= instance.overlap)


def least_with_others(instance: Instance, which: int, solver: Solver = "highs") -> float | None:
    """Return the least sum of cost ``which`` under the other limits; None if the others cannot be held together."""
    others = [c for c in range(len(instance.names)) if c != which]
    try:
        entries = _optimum(_model(instance, instance.cost[which], others), instance, solver)
    except InfeasibleError:
        return None
    return float(instance.cost[which, entries].sum())


def _model(instance: Instance, objective: Floats, limited: range | list[int]) -> _Model:
    program = pulp.LpProblem("selection", pulp.LpMinimize)
    pick = [program.add_variable(f"x{e}", cat=pulp.LpBinary) for e in range(len(instance.block))]
    scale = float(np.abs(objective).max()) or 1.0
    program += pulp.lpSum(float(v) * x for v, x in zip(objective / scale, pick, strict=True))
    for begin, end in zip(instance.start[:-1], instance.start[1:], strict=True):
        program.addConstraint(pulp.lpSum(pick[begin:end]) == 1)
    for c in limited:
        unit = float(np.abs(instance.cost[c]).max()) or 1.0
        total = pulp.lpSum(float(v) * x for v, x in zip(instance.cost[c] / unit, pick, strict=True))
        if np.isfinite(instance.high[c]):
            program.addConstraint(total <= float(instance.high[c]) / unit)
        if np.isfinite(instance.low[c]):
            program.addConstraint(total >= float(instance.low[c]) / unit)
    return _Model(program, pick, scale)


def _solve(model: _Model, instance: Instance, solver: Solver) -> Ints | None:
    """Return the optimum that holds the limits exactly, not only within the solver's tolerance; None if none does."""
    while True:
        try:
            entries = _optimum(model, instance, solver)
        except InfeasibleError:
            return None
        if holds(instance, entries):
            return entries
        model.program.addConstraint(pulp.lpSum(model.pick[e] for e in entries) <= instance.blocks - 1)


def _optimum(model: _Model, instance: Instance, solver: Solver) -> Ints:
    if solver == "highs":
        engine = pulp.HiGHS(
            msg=False,
            gapRel=0.0,
            gapAbs=0.0,
            threads=1,
            mip_feasibility_tolerance=TOLERANCE,
            primal_feasibility_tolerance=TOLERANCE,
            dual_feasibility_tolerance=TOLERANCE,
            small_matrix_value=1e-12,
        )
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the name goes with PuLP 4, which is not admitted
            engine = pulp.PULP_CBC_CMD(msg=False, gapRel=0.0, gapAbs=0.0, threads=1)
    with no_output():
        model.program.solve(engine)
    if model.program.status == pulp.LpStatusInfeasible:
        raise InfeasibleError("the integer program has no solution")
    # PuLP 3 calls a time-limited solution "Optimal" too; only sol_status tells a proof from an incumbent
    if model.program.status != pulp.LpStatusOptimal or model.program.sol_status != pulp.LpSolutionOptimal:
        raise RuntimeError(f"{solver} ended with {pulp.LpStatus[model.program.status]}, expected a proven optimum")
    value = np.array([x.varValue or 0.0 for x in model.pick])
    blocks = zip(instance.start[:-1], instance.start[1:], strict=True)
    return np.array([begin + int(value[begin:end].argmax()) for begin, end in blocks], dtype=np.int64)
