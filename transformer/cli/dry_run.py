"""``--dry-run``: what a command would do, with nothing written."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ..contracts.inspection import inspect_graph
from ..contracts.records import OperationRecord
from ..contracts.store import RunStore
from ..ir.graph import Graph
from ..pipeline.build import build_pipeline, effective
from ..pipeline.config import Config, dump
from ..pipeline.default import VERBS
from ..pipeline.identity import check_identity
from ..pipeline.session import load_materials, make_context
from .inspection import write_blocks
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


def dry_run(verb: str, job: Job, *, as_json: bool) -> int:
    """Load and capture everything, then say which passes would run on which blocks with how many candidates."""
    with result_only():
        plan = make_plan(verb, job)
    told = inspect_graph(plan.graph)
    if as_json:
        plain = {
            "run": str(job.root),
            "run_passes": plan.todo,
            "skip_passes": plan.done,
            "candidates": plan.candidates,
            "blocks": told.model_dump(mode="json", by_alias=True)["blocks"],
            "config": plan.config.model_dump(mode="json"),
        }
        write_json(plain)
        return 0
    console = Console()
    write_line(console, dump(plan.config))
    write_blocks(told, console)
    write_line(console, f"run: {job.root} ({'exists' if is_run(job.root) else 'new'})")
    write_line(console, f"candidates: {plan.candidates} fit")
    write_line(console, f"passes to run: {', '.join(plan.todo) or 'none'}")
    if plan.done:
        write_line(console, f"passes up to date: {', '.join(plan.done)}")
    write_line(console, "dry run: nothing was written")
    return 0


def make_plan(verb: str, job: Job) -> Plan:
    """Capture in a scratch directory, and look up in the run, where there is one, what is up to date."""
    pipeline = build_pipeline(job.config)
    materials = load_materials(job.config)
    with tempfile.TemporaryDirectory(prefix="hant-") as folder, RunStore(Path(folder)) as store:
        scratch = pipeline.run(make_context(job.config, materials, store), only=("capture", "candidates"))
        fitting = sum(record.fits for record in store.all(OperationRecord).values())
    done: list[str] = []
    if is_run(job.root):
        with RunStore(job.root) as store:
            context = make_context(job.config, materials, store)
            check_identity(context, record=False)
            done = [stage.name for stage in pipeline.passes if pipeline.finished(stage, context)]
    todo = [name for name in VERBS[verb] if name not in done]
    return Plan(scratch.teacher, fitting, todo, done, effective(job.config, pipeline))
