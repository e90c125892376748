"""``--dry-run``: what a command would do, with nothing written."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from ..contracts.records import OperationRecord
from ..contracts.store import RunStore
from ..pipeline.build import build_pipeline, effective
from ..pipeline.config import dump
from ..pipeline.default import VERBS
from ..pipeline.identity import check_identity
from ..pipeline.session import load_materials, make_context
from .inspection import block_rows, write_blocks
from .resolve import Job, is_run
from .tables import write_line


def dry_run(verb: str, job: Job, *, as_json: bool) -> int:
    """Load and capture everything, then say which passes would run on which blocks with how many candidates."""
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
    settings = effective(job.config, pipeline)
    if as_json:
        blocks = block_rows(scratch.teacher)
        plan = {"run": str(job.root), "run_passes": todo, "skip_passes": done, "candidates": fitting, "blocks": blocks}
        sys.stdout.write(json.dumps(plan | {"config": settings.model_dump(mode="json")}, indent=1) + "\n")
        return 0
    console = Console()
    write_line(console, dump(settings))
    write_blocks(scratch.teacher, console)
    write_line(console, f"run: {job.root} ({'exists' if is_run(job.root) else 'new'})")
    write_line(console, f"candidates: {fitting} fit")
    write_line(console, f"passes to run: {', '.join(todo) or 'none'}")
    if done:
        write_line(console, f"passes up to date: {', '.join(done)}")
    write_line(console, "dry run: nothing was written")
    return 0
