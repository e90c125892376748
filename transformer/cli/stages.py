"""The verbs that run passes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from ..contracts.context import Context
from ..contracts.records import PassRecord
from ..errors import UsageError
from ..pipeline.default import VERBS
from ..pipeline.pipeline import Listener
from ..pipeline.reach import reach
from ..pipeline.session import load_materials, open_run, save_config
from .crash import crash_log
from .dry_run import dry_run
from .progress import progress_for
from .resolve import Job, resolve
from .summary import show_summary

_NEED_BUDGET = ("optimize", "select")
_NEED_DATA = ("optimize", "pretrain", "score", "rank", "finetune", "verify")


def run_stage(verb: str, flags: dict[str, Any]) -> int:
    """Run the passes of ``verb``; return the exit code."""
    job = resolve(flags)
    _check_given(verb, job)
    if flags["save_config"]:
        save_config(job.config, Path(flags["save_config"]))
    if flags["dry_run"]:
        return dry_run(verb, job, as_json=flags["as_json"])
    progress = progress_for(flags["quiet"])
    materials = load_materials(job.config)
    with crash_log(job.root), open_run(job.config, job.root, materials, progress) as (context, pipeline):
        names = VERBS[verb]
        context = pipeline.run(context, only=names, listener=_tell_reach(job))
        if names[-1] == "report":
            return show_summary(context.store, as_json=flags["as_json"])
        _show_passes(context, names[1:], as_json=flags["as_json"])
    return 0


def run_demo(output: str | None, budget: str | None, *, as_json: bool, verbose: int, quiet: bool) -> int:
    """Do the whole job on the teacher of digits that is part of the package."""
    teacher = files(__package__.partition(".")[0]) / "examples" / "digits" / "teacher.pt"
    if not teacher.is_file():
        raise UsageError("the demo's teacher is not installed; clone the repository and run: make demo")
    with as_file(teacher) as path:
        words = {"subject": str(path), "data": "digits", "budget": budget or "0.45", "output": output or "runs/digits"}
        switches = {"as_json": as_json, "verbose": verbose, "quiet": quiet, "save_config": None, "dry_run": False}
        return run_stage("optimize", words | switches)


def _check_given(verb: str, job: Job) -> None:
    if verb in _NEED_BUDGET and job.config.budget is None:
        raise UsageError(f"{verb} needs a budget; give --budget 0.45 (of the teacher's latency) or --budget 12ms")
    if verb in _NEED_DATA and job.config.data is None:
        raise UsageError(
            f"{verb} needs data; give --data digits, cifar10:DIR, imagefolder:DIR, package.module:function "
            "or file.py:function"
        )


def _tell_reach(job: Job) -> Listener:
    """Return a listener that says after profiling whether the budget can be met, and stops where it cannot."""
    budget = job.config.parsed_budget()

    def listen(name: str, context: Context) -> None:
        found = reach(context) if name == "profile" else None
        if found is not None:
            context.progress.log(str(found))
            if budget is not None:
                context.progress.log(found.check(budget))

    return listen


def _show_passes(context: Context, names: Sequence[str], *, as_json: bool) -> None:
    records = {name: context.store.get(PassRecord, name) for name in names}
    if as_json:
        plain = {name: record.model_dump(mode="json") for name, record in records.items() if record is not None}
        sys.stdout.write(json.dumps({"run": str(context.store.root), "passes": plain}, indent=1) + "\n")
        return
    for name, record in records.items():
        if record is not None:
            sys.stdout.write(f"{name}: done in {record.seconds:.1f} s" + "".join(f"; {n}" for n in record.notes) + "\n")
