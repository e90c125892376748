"""The verbs that run passes."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from ..contracts.context import Context
from ..contracts.processes import processes
from ..contracts.progress import Progress
from ..contracts.store import RunStore
from ..errors import UnverifiedError, UsageError
from ..pipeline.build import build_pipeline
from ..pipeline.default import VERBS
from ..pipeline.outcome import check_limits, check_outcome, is_report_finished
from ..pipeline.pipeline import Listener, Pipeline
from ..pipeline.session import load_materials, open_run, save_config
from ..pipeline.watch import watch
from .crash import crash_log
from .dry_run import dry_run
from .kit import run_kit, with_pass
from .progress import progress_for
from .resolve import Job, resolve
from .streams import hush, result_only
from .summary import show_passes, show_summary

_NEED_BUDGET = ("optimize", "select")
_SHARED = ("finetune",)
"""Verbs that several processes can do together."""
_NEED_DATA = ("optimize", "pretrain", "score", "rank", "finetune", "verify")


def run_stage(verb: str, flags: dict[str, Any]) -> int:
    """Run the passes of ``verb``; return the exit code."""
    if flags.get("kit"):
        return run_kit(verb, flags)
    main = processes().main
    job = resolve(flags)
    _check_given(verb, job)
    if flags["save_config"] and main:
        save_config(job.config, Path(flags["save_config"]))
    if flags["dry_run"]:
        return dry_run(verb, job, as_json=flags["as_json"]) if main else 0
    hush(flags["verbose"])
    with crash_log(job.root):
        if verb == "report" and job.from_run and not job.changed and _told(job, flags):
            return 0
        with result_only():
            progress = progress_for(flags["quiet"]) if main else Progress()
            pipeline = build_pipeline(job.config)
            working = with_pass(job.config, "import", flags["latencies"]) if flags.get("latencies") else pipeline
            materials = load_materials(job.config)
        with open_run(job.config, job.root, materials, pipeline, progress, VERBS[verb]) as context:
            _run(verb, context, working, watch(job.config.parsed_budget()), as_json=flags["as_json"])
    return 0


def _told(job: Job, flags: dict[str, Any]) -> bool:
    """Show the report of a finished run from what is written there; neither model nor data is loaded."""
    if processes().count > 1 or not (job.root / "run.sqlite").is_file():
        return False
    with RunStore(job.root) as store:
        if not is_report_finished(store):
            return False
        progress_for(flags["quiet"]).log("report: up to date")
        show_summary(store, as_json=flags["as_json"])
        check_outcome(store)
        check_limits(store)
    return True


def _run(verb: str, context: Context, pipeline: Pipeline, listener: Listener, *, as_json: bool) -> None:
    """Run the verb's passes and print what came out, also where it is not verified."""
    names = VERBS[verb]
    unverified: UnverifiedError | None = None
    with result_only():
        try:
            context = pipeline.run(context, only=names, listener=listener)
        except UnverifiedError as error:
            unverified = error
    if not processes().main:
        return
    if names[-1] == "report":
        show_summary(context.store, as_json=as_json)
    else:
        show_passes(context.store, names[1:], as_json=as_json)
    if unverified is not None:
        raise unverified
    if names[-1] in ("verify", "report"):
        check_outcome(context.store)
    if names[-1] == "report":
        check_limits(context.store)


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
    if processes().count > 1 and verb not in _SHARED:
        raise UsageError(
            f"{verb} runs in one process, and {processes().count} were started; start several for finetune only: "
            f"accelerate launch --no_python hant-opt finetune {job.root}"
        )
    if verb in _NEED_BUDGET and job.config.budget is None:
        raise UsageError(f"{verb} needs a budget; give --budget 0.45 (of the teacher's latency) or --budget 12ms")
    if verb in _NEED_DATA and job.config.data is None:
        raise UsageError(
            f"{verb} needs data; give --data digits, cifar10:DIR, imagefolder:DIR, package.module:function "
            "or file.py:function"
        )
