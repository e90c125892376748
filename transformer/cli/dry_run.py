"""``--dry-run``: what a command would do, with nothing written."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from rich.console import Console

from ...passes.candidates.records import OperationRecord
from ...passes.capturing.inspection import inspect_graph
from ..ir.graph import Graph
from ..pipeline.build import effective
from ..pipeline.config import Config, dump
from ..pipeline.default import order, verb_passes
from ..pipeline.forecast import Expected, forecast
from ..pipeline.preflight import check_options
from ..pipeline.session import check_place
from ..runs.identity import check_identity
from ..runs.store import RunStore
from .inspection import write_blocks
from .opening import opened
from .options import StageCommand
from .resolve import Job, is_run
from .streams import result_only
from .tables import write_line
from .terminal import write_json


@dataclass(frozen=True)
class Plan:
    """What a command would do."""

    graph: Graph
    candidates: int
    """How many (block, operation) pairs fit."""
    todo: list[str]
    done: list[str]
    config: Config
    expected: list[Expected]
    """What each stage that is to run is expected to take; estimates."""


def dry_run(command: StageCommand, job: Job, begun: Job | None = None) -> int:
    """Load and capture everything, then say which passes would run on which blocks with how many candidates.

    ``begun`` is the job with a teacher in place of what makes one; the configuration that is shown is the first's.
    """
    check_place(job.root)
    with result_only():
        plan = make_plan(command, begun or job)
        plan = plan if begun is None else replace(plan, config=job.config)
    told = inspect_graph(plan.graph)
    if command.as_json:
        plain = {
            "run": str(job.root),
            "run_passes": plan.todo,
            "skip_passes": plan.done,
            "candidates": plan.candidates,
            "expected": [asdict(item) for item in plan.expected],
            "blocks": told.model_dump(mode="json", by_alias=True)["blocks"],
            "config": plan.config.model_dump(mode="json"),
        }
        write_json(plain)
        return 0
    console = Console()
    write_line(console, dump(plan.config))
    write_blocks(told, console)
    write_line(console, f"run: {job.root} ({'exists' if is_run(job.root) else 'new'})")
    if plan.candidates:
        write_line(console, f"candidates: {plan.candidates} fit")
    write_line(console, f"passes to run: {', '.join(plan.todo) or 'none'}")
    write_expected(plan.expected, console)
    if plan.done:
        write_line(console, f"passes up to date: {', '.join(plan.done)}")
    write_line(console, "dry run: nothing was written")
    return 0


def make_plan(command: StageCommand, job: Job) -> Plan:
    """Capture in a scratch run, and look up in the run, where there is one, what is up to date."""
    names = verb_passes(command.verb, job.config.search, job.config.shared)
    usual = order(job.config.search, job.config.shared, command.verb)
    with opened(command, job, usual, scratch=True) as (context, pipeline):
        stages = [stage for stage in pipeline.passes if stage.name in names]
        check_options(context, stages)
        scratch = pipeline.run(context, only=[name for name in ("capture", "candidates") if name in pipeline.names])
        expected = forecast(scratch, stages)
        fitting = sum(record.fits for record in context.store.all(OperationRecord).values())
        done: list[str] = []
        if is_run(job.root):
            with RunStore(job.root) as store:
                there = replace(scratch, store=store.of(job.config.student))
                check_identity(there, record=False)
                done = [stage.name for stage in pipeline.passes if pipeline.finished(stage, there)]
    todo = [name for name in names if name not in done]
    return Plan(
        scratch.teacher,
        fitting,
        todo,
        done,
        effective(job.config, pipeline),
        [item for item in expected if item.stage in todo],
    )


def write_expected(expected: list[Expected], console: Console) -> None:
    """Print steps, time and disk of each stage, and of all together."""
    for item in expected:
        write_line(console, f"expected of {item.stage}: {item.what}, {_about(item.seconds, item.bytes)}")
    total = _about(sum(item.seconds for item in expected), sum(item.bytes for item in expected))
    if expected:
        write_line(console, f"expected in all: {total} (estimates, by one training step of the teacher here)")


def _about(seconds: float, size: int) -> str:
    """Return a time, and bytes where there are any, in words."""
    units = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
    unit, name = next((pair for pair in units if seconds >= 2 * pair[0]), units[-1])
    words = f"about {max(1, round(seconds / unit))} {name}" if seconds else "moments"
    return words + (f" and {max(1, round(size / 1e6)):,} MB on disk" if size else "")
