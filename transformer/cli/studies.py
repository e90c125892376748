"""What ``hant-opt pareto`` and ``hant-opt apply`` do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console

from ...backends.targets.load import load_target
from ...passes.selecting.records import ParetoRecord
from ..contracts.context import Context
from ..contracts.target import Target
from ..contracts.task import Metric
from ..errors import InfeasibleError, LoadError, UnverifiedError, UsageError
from ..pipeline.default import order
from ..pipeline.front import front_elsewhere
from ..pipeline.pipeline import Pipeline
from ..tools.reading import parse_json
from .opening import opened
from .options import ApplyCommand, ParetoCommand, StudyCommand
from .resolve import check_begun, resolve
from .streams import result_only
from .summary import show_passes
from .tables import write_line, write_table
from .terminal import write_json

_HEADS = ("target", "budget", "front", "network ms", "teacher ms", "ratio", "loss")


def run_pareto(command: ParetoCommand) -> int:
    """Find and print the points; exit code 3 where no budget can be met."""
    options: dict[str, Any] = {}
    if command.budgets is not None:
        options["budgets"] = _split(command.budgets)
    if command.alphas is not None:
        options["alphas"] = _split(command.alphas)
    if "limits" in command.given:
        options["limits"] = command.given["limits"]
    given = {name: value for name, value in command.given.items() if name != "limits"}
    with _study(command, given, ("pareto",), {"pareto": options}) as (context, pipeline):
        with result_only():
            context = pipeline.run(context, only=("capture",))
            _fronts(context, pipeline, [load_target(name) for name in _split(command.targets)])
        _show(context, as_json=command.as_json)
    return 0


def run_passes(command: ApplyCommand) -> int:
    """Run the named passes and print their notes."""
    with _study(command, command.given, command.names, {}) as (context, pipeline):
        with result_only():
            context = pipeline.run(context, only=("capture", *command.names))
        show_passes(context.store, command.names, as_json=command.as_json)
    return 0


def _study(
    command: StudyCommand, given: Mapping[str, Any], extra: Sequence[str], options: Mapping[str, dict[str, Any]]
) -> AbstractContextManager[tuple[Context, Pipeline]]:
    """Open the run with the extra passes at the pipeline's end; its stored configuration stays as it is."""
    job = resolve(given)
    if not job.from_run:
        raise UsageError(f"{command.subject} is not a run; give the directory of one, made by: hant-opt score MODEL")
    check_begun(job)
    stored = resolve({"subject": command.subject, "student": job.config.student}).config
    usual = order(job.config.search, job.config.shared)
    passes = (*usual, *(name for name in extra if name not in usual))
    return opened(command, job, passes, options, kept=stored)


def _fronts(context: Context, pipeline: Pipeline, targets: Sequence[Target]) -> None:
    """Find the front on each target; on the run's own last, so that its drawings show all."""
    own = [target for target in targets if target.fingerprint == context.target.fingerprint]
    stages = [stage for stage in pipeline.passes if stage.name in ("candidates", "profile", "pareto")]
    for target in targets:
        if target not in own:
            front_elsewhere(context, target, stages)
    if own or not targets:
        pipeline.run(context, only=("capture", "pareto"))
    draw = getattr(stages[-1], "draw", None)
    if draw is not None:
        draw(context)


def _show(context: Context, *, as_json: bool) -> None:
    """Print the points.

    Raises:
        InfeasibleError: no budget is met.
        UnverifiedError: a latency is an estimate.
    """
    points = list(context.store.all(ParetoRecord).values())
    if as_json:
        text = context.store.path("pareto.json").read_text(encoding="utf-8")
        write_json(parse_json(text, "pareto.json", LoadError, "it was just written"))
    else:
        console = Console()
        heads = (*_HEADS, context.metric.name)
        write_table(console, heads, [_row(point, context.metric) for point in points], right=5)
        for point in points:
            if not point.choice:
                write_line(console, f"{point.aim} on {point.target} not met: {point.reason}")
        write_line(console, f"loss and {context.metric.name} are of held-out training images, before fine-tuning")
        write_line(console, f"files: {context.store.path('pareto.json')}, {context.store.path('figures/pareto.svg')}")
    if points and not any(point.choice for point in points):
        raise InfeasibleError(points[-1].reason)
    if any(point.estimated for point in points):
        raise UnverifiedError("latencies marked with ~ are estimates; measure the networks on their device")


def _row(point: ParetoRecord, metric: Metric) -> tuple[str, ...]:
    if not point.choice:
        return (point.target, point.budget, "not met", "", "", "", "", "")
    mark = "~" if point.estimated else ""
    return (
        point.target,
        point.budget,
        "yes" if point.on_front else "no",
        f"{mark}{point.measured_ms:.4g}",
        f"{mark}{point.teacher_ms:.4g}",
        f"{mark}{point.ratio:.3f}",
        f"{point.loss:.4f}",
        metric.text(point.accuracy),
    )


def _split(text: str | None) -> list[str]:
    return [item.strip() for item in (text or "").split(",") if item.strip()]
