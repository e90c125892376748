"""The whole job from Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...op_library.op_spec import OpSpec
from ...passes.reporting.schema import AccuracyReport, LatencyReport, Report
from ..contracts.budget import Budget
from ..contracts.context import Context
from ..contracts.data import Data
from ..contracts.progress import Progress
from ..contracts.record import STUDENT
from ..contracts.target import Target
from ..files.load import declare_shapes, input_shapes
from ..runs.students import check_name
from ..tools.copied import copied
from ..tools.wrappers import unwrapped
from . import session
from .build import build_pipeline
from .config import FILE, Config, make, merge
from .outcome import REPORTS, check_limits, check_outcome, read_report
from .students import common_to, stored_for
from .trust import mark_foreign
from .watch import watch


@dataclass(frozen=True)
class Result:
    """What an optimisation made."""

    model: nn.Module
    """The student, in eval mode and on the device of the model that was given.

    A copy of that model with other submodules, so its class and methods are its own; a ``GraphModule`` where a block
    is no submodule that could be exchanged."""
    selection: dict[str, str]
    """Operation of every replaceable block."""
    latency: LatencyReport
    """``teacher_ms``, ``student_ms``, ``ratio``, ``predicted_ratio``, ``estimated``, and the timings."""
    metrics: AccuracyReport
    """Of ``teacher`` and ``student`` in percent, ``drop`` in points; or in the metric of the data's task."""
    report: Report
    """All of ``report.json``."""
    run: Path
    """The run's directory."""
    student: str
    """Name of the student in it."""
    structure: str
    """Of a designed network (``hant.design``); empty where the student is the teacher with other blocks."""
    folder: Path
    """Where the exported files and the report lie: the run's directory, unless the student has a name of its own."""


def optimize(
    model: nn.Module | str | Path,
    *,
    data: Data | str,
    target: Target | str = "cpu-ort",
    budget: Budget | float | str = 0.45,
    pool: tuple[OpSpec, ...] | str = "fast",
    run: Path | str | None = None,
    student: str = STUDENT,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Make a student of ``model`` that is inside ``budget`` on ``target``; the whole job of the command.

    ``options`` are those of the configuration file (``epochs=3``, ``seed=1``, ``passes={"finetune": {...}}``).
    The same call on the same ``run`` resumes it; without ``run`` a new one is made in ``runs``, which the result names.
    ``model`` itself stays as it is, with its mode and on its device. Each ``student`` of a run, by its name, has a
    budget, a target and files of its own, and is made from the same candidates.

    Raises:
        UsageError: something given is unknown or does not fit.
        InfeasibleError: the budget cannot be met; ``least`` says what can.
        AccuracyError: the student loses more than ``max_drop`` points; the run has it.
        UnverifiedError: the student was made but not verified on the target; the run has it.
    """
    values = {"budget": _budget_text(budget), **_limits(budget), "student": student, **options}
    with opened_run(run, model, data, target, pool, values, progress) as (context, config):
        listener = watch(config.parsed_budget(), blocks=config.search != "design")
        context = build_pipeline(config).run(context, listener=listener)
        check_outcome(context.store)
        check_limits(context.store)
        return read_result(context, device_of(model) if isinstance(model, nn.Module) else torch.device("cpu"))


@contextmanager
def open_run(
    run: Path | str,
    model: nn.Module | str | Path | None = None,
    *,
    data: Data | str | None = None,
    target: Target | str | None = None,
    pool: tuple[OpSpec, ...] | str | None = None,
    student: str = STUDENT,
    progress: Progress | None = None,
    **options: Any,
) -> Iterator[Context]:
    """Open the run at ``run``, or make it, and yield the context that passes work on.

    What is left out is what the run was made with, as far as it has a name: a program that gave an object gives it
    again. ``options`` are those of the configuration file. Records and files are those of the named ``student``.

    Raises:
        UsageError: something given is unknown, does not fit, or is not what the run was made with.
        StorageError: the directory cannot be used.
    """
    values = {"student": student, **options}
    with opened_run(run, model, data, target, pool, values, progress, resume=True) as (context, _):
        yield context


def read_result(context: Context, device: torch.device) -> Result:
    """Return the result of a finished run; the student on ``device``."""
    from ...passes.networks.assemble import load_student

    report = read_report(context.store)
    return Result(
        model=load_student(context).network.eval().to(device),
        selection=report.selection,
        latency=report.latency,
        metrics=report.accuracy,
        report=report,
        run=context.store.root,
        student=context.store.student,
        structure="" if report.design is None else report.design.structure,
        folder=context.store.path(REPORTS[0]).parent,
    )


@contextmanager
def opened_run(
    run: Path | str | None,
    model: nn.Module | str | Path | None,
    data: Data | str | None,
    target: Target | str | None,
    pool: tuple[OpSpec, ...] | str | None,
    options: Mapping[str, Any],
    progress: Progress | None,
    *,
    resume: bool = False,
) -> Iterator[tuple[Context, Config]]:
    """Open a run from objects, or names of them, and options."""
    names = {
        "model": f"<{type(model).__name__}>" if isinstance(model, nn.Module) else model and str(model),
        "data": f"<{data.name}>" if isinstance(data, Data) else data,
        "target": target.name if isinstance(target, Target) else target,
        "pool": ",".join(spec.name for spec in pool) if isinstance(pool, tuple) else pool,
    }
    given = {name: value for name, value in names.items() if value is not None}
    said, stored = merge(given, options), dict[str, Any]()
    if run is not None and (Path(run) / FILE).is_file():
        stored = _stored(Path(run), said, whole=resume)
    config = make(merge(stored, said), "hant.open_run" if resume else "hant.optimize")
    if stored:
        config = mark_foreign(config, Path(str(run)), make(stored, str(Path(str(run)) / FILE)), said)
    materials = session.load_materials(
        config,
        model=_copied(model) if isinstance(model, nn.Module) else None,
        data=data if isinstance(data, Data) else None,
        target=target if isinstance(target, Target) else None,
        pool=pool if isinstance(pool, tuple) else None,
    )
    root = new_folder(Path(session.default_output(config))) if run is None else Path(run)
    config = config.model_copy(update={"output": str(root)})
    with session.open_run(config, root, materials, build_pipeline(config), progress) as context:
        yield context, config


def _stored(root: Path, said: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    """Return what the run holds of what is not said: all, or only what its students have in common."""
    student = check_name(said["student"])
    common = {} if student == STUDENT else common_to(root, said)
    return stored_for(root, student) if whole else common


def _copied(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode on the CPU to work on, without what only wraps the network.

    Raises:
        CaptureError: it cannot be copied.
    """
    (own,) = copied(unwrapped(model))
    shapes = input_shapes(model)
    if shapes:
        declare_shapes(own, shapes)
    return own.eval().cpu()


def device_of(model: nn.Module) -> torch.device:
    """Return the device that a model is on; the CPU where it has no weights."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def new_folder(first: Path) -> Path:
    """Return ``first`` or, where that is taken, ``first-2`` and so on."""
    names = chain([first], (first.with_name(f"{first.name}-{number}") for number in count(2)))
    return next(path for path in names if not path.exists())


def _budget_text(budget: Budget | float | str) -> str:
    return str(Budget(budget.latency) if isinstance(budget, Budget) else budget)


def _limits(budget: Budget | float | str) -> dict[str, list[str]]:
    return {"limits": [f"{name}={limit}" for name, limit in budget.limits]} if isinstance(budget, Budget) else {}
