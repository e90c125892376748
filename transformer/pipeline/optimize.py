"""The whole job from Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ...op_library.op_spec import OpSpec
from ..contracts.budget import Budget
from ..contracts.context import Context
from ..contracts.data import Data
from ..contracts.progress import Progress
from ..contracts.target import Target
from .build import build_pipeline
from .config import make
from .outcome import check_limits, check_outcome
from .session import load_materials, open_run
from .watch import watch

Listener = Any


@dataclass(frozen=True)
class Result:
    """What an optimisation made."""

    model: nn.Module
    """The student in eval mode, on the CPU."""
    selection: dict[str, str]
    """Operation of every replaceable block."""
    latency: dict[str, Any]
    """``teacher_ms``, ``student_ms``, ``ratio``, ``predicted_ratio``, ``estimated``, and the timings."""
    metrics: dict[str, Any]
    """Accuracy of ``teacher`` and ``student`` in percent, ``drop`` in points."""
    report: dict[str, Any]
    """All of ``report.json``."""
    run: Path
    """The run's directory, with the exported files."""


def optimize(
    model: nn.Module | str | Path,
    *,
    data: Data | str,
    target: Target | str = "cpu-ort",
    budget: Budget | float | str = 0.45,
    pool: tuple[OpSpec, ...] | str = "fast",
    run: Path | str,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Make a student of ``model`` that is inside ``budget`` on ``target``; the whole job of the command.

    ``options`` are those of the configuration file (``epochs=3``, ``seed=1``, ``passes={"finetune": {...}}``).
    The same call on the same ``run`` resumes it.

    Raises:
        UsageError: something given is unknown or does not fit.
        InfeasibleError: the budget cannot be met; ``least`` says what can.
        AccuracyError: the student loses more than ``max_drop`` points; the run has it.
        UnverifiedError: the student was made but not verified on the target; the run has it.
    """
    values = {
        "model": str(model) if isinstance(model, str | Path) else f"<{type(model).__name__}>",
        "data": data if isinstance(data, str) else f"<{data.name}>",
        "target": target if isinstance(target, str) else target.name,
        "pool": pool if isinstance(pool, str) else ",".join(spec.name for spec in pool),
        "output": str(run),
        **_budget(budget),
        **options,
    }
    from ..capture.wrappers import unwrapped

    config = make(values, "hant.optimize")
    pipeline = build_pipeline(config)
    materials = load_materials(
        config,
        model=unwrapped(model).eval() if isinstance(model, nn.Module) else None,
        data=data if isinstance(data, Data) else None,
        target=target if isinstance(target, Target) else None,
        pool=pool if isinstance(pool, tuple) else None,
    )
    with open_run(config, Path(run), materials, pipeline, progress) as context:
        context = pipeline.run(context, listener=watch(config.parsed_budget()))
        check_outcome(context.store)
        check_limits(context.store)
        return read_result(context)


def read_result(context: Context) -> Result:
    """Return the result of a finished run."""
    from ...passes.assemble import load_student
    from ..capture.load import load

    report: dict[str, Any] = json.loads(context.store.path("report.json").read_text())
    described = context.store.path("student.json").is_file()  # else its network is no data: see the export's record
    student = load(context.store.path("student.safetensors")) if described else load_student(context).network.cpu()
    return Result(
        model=student.eval(),
        selection=report["selection"],
        latency=report["latency"],
        metrics=report["accuracy"],
        report=report,
        run=context.store.root,
    )


def _budget(budget: Budget | float | str) -> Mapping[str, Any]:
    if isinstance(budget, Budget):
        head = str(Budget(budget.latency))
        return {"budget": head, "limits": [f"{name}={limit}" for name, limit in budget.limits]}
    return {"budget": str(budget)}
