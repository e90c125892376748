"""Many students from one training, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...op_library.op_spec import OpSpec
from ...passes.sharing.front import Front
from ..contracts.data import Data
from ..contracts.progress import Progress
from ..contracts.record import STUDENT
from .build import build_pipeline
from .config import merge
from .optimize import Result, device_of, opened_run, read_result
from .shrinking import base_passes, shrink


@dataclass(frozen=True)
class Students:
    """What one shared training gave."""

    students: dict[str, Result]
    """By ``target/budget``; those that could not be made are missing, ``report`` says why."""
    report: Front
    """All of ``front.json``."""
    run: Path
    """The run's directory."""

    @property
    def mean_accuracy(self) -> dict[str, float]:
        """Mean Pareto accuracy over measured latency, by target."""
        return self.report.mean_accuracy

    @property
    def cost(self) -> float:
        """Cost of the shared training, in epochs of the full network."""
        return self.report.cost


def once_for_all(
    model: nn.Module | str | Path,
    *,
    data: Data | str,
    budgets: Sequence[float | str],
    targets: Sequence[str] = ("cpu-ort",),
    pool: tuple[OpSpec, ...] | str = "elastic",
    run: Path | str | None = None,
    anew: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Students:
    """Make a student of ``model`` for each budget on each target, from one training.

    ``options`` are those of the configuration file, ``passes={"shrink": {...}}`` among them; the first target is the
    run's own. On a ``run`` that was trained further budgets take no step of training; ``anew`` trains again.
    A student that cannot be made or verified does not stop the others: ``report`` says what became of each.

    Raises:
        UsageError: something given is unknown or does not fit.
        InfeasibleError: no budget can be met on any target.
    """
    passes = merge({"pretrain": {"derived": "copy"}}, options.pop("passes", {}))
    values = {"student": STUDENT, **options, "passes": passes}
    with opened_run(run, model, data, targets[0], pool, values, progress) as (context, config):
        names = base_passes(config)
        context = build_pipeline(config, names).run(context, only=names[:-1])
        front = shrink(context, config, [str(budget) for budget in budgets], targets, anew=anew)
        device = device_of(model) if isinstance(model, nn.Module) else torch.device("cpu")
        found = {
            f"{point.target}/{point.budget}": read_result(
                replace(context, store=context.store.of(point.student)), device
            )
            for point in front.points
            if point.made
        }
        return Students(found, front, context.store.root)
