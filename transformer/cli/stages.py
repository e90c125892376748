"""The verbs that run passes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from ...passes.latency.table_file import export_table
from ..contracts.context import Context
from ..errors import UnverifiedError, UsageError
from ..pipeline.config import Config
from ..pipeline.default import order, verb_passes
from ..pipeline.outcome import check_limits, check_outcome, is_report_finished
from ..pipeline.pipeline import Listener, Pipeline
from ..pipeline.session import save_config
from ..pipeline.watch import watch
from ..runs.processes import processes
from ..runs.store import RunStore
from .crash import crash_log
from .dry_run import dry_run
from .opening import opened
from .options import Command, StageCommand
from .progress import progress_for
from .resolve import Job, check_begun, resolve
from .streams import hushed, result_only
from .summary import show_passes, show_summary

_NEED_BUDGET = ("optimize", "select", "search", "design")
_SHARED = ("align", "finetune")
"""Verbs that several processes can do together."""
_NEED_STUDENT = ("rank", "align", "finetune", "export", "verify", "report")
_NEED_DATA = ("optimize", "design", "pretrain", "score", "search", "rank", "align", "finetune", "verify")


def run_stage(command: StageCommand) -> int:
    """Run the passes of the verb; return the exit code."""
    main = processes().main
    _check_words(command)
    job = resolve(command.given)
    search = "design" if command.verb == "design" else job.config.search
    job = replace(job, config=job.config.model_copy(update={"search": search}))
    _check_given(command.verb, job)
    if command.save_config and main:
        save_config(job.config, Path(command.save_config))
    if command.dry_run:
        return _dry_run(command, job) if main else 0
    if command.verb == "design":
        job = _with_master(command, job)
    if command.kit is not None:
        return write_kit(command, job)
    if command.verb == "report" and job.from_run and not job.changed and _told(command, job):
        return 0
    imported = {} if command.latencies is None else {"import": {"file": command.latencies}}
    names = verb_passes(command.verb, search, job.config.shared)
    passes = _before_profile(job.config, *imported, verb=command.verb)
    with opened(command, job, passes, imported, only=names) as (context, pipeline):
        _run(command, names, context, pipeline, watch(job.config.parsed_budget(), blocks=search != "design"))
        if command.export is not None:
            export_table(context.store, context.target, Path(command.export))
    return 0


def _dry_run(command: StageCommand, job: Job) -> int:
    """Say what the verb would do; of a design around a MasterNet that may not have been trained yet."""
    if command.verb != "design":
        return dry_run(command, job)
    from ..pipeline.design import plan_master

    with tempfile.TemporaryDirectory(prefix="hant-") as folder:
        with hushed(command.verbose), crash_log(job.root), result_only():
            config = plan_master(job.config, job.root, Path(folder))
        return dry_run(command, job, replace(job, config=config))


def _with_master(command: StageCommand, job: Job) -> Job:
    """Return the job with its teacher: a MasterNet without weights is trained first."""
    from ..pipeline.design import with_master

    with hushed(command.verbose), crash_log(job.root), result_only():
        config = with_master(job.config, job.root, progress=progress_for(command.quiet))
    return replace(job, config=config)


def _told(command: StageCommand, job: Job) -> bool:
    """Show the report of a finished run from what is written there; neither model nor data is loaded."""
    if processes().count > 1 or not (job.root / "run.sqlite").is_file():
        return False
    with hushed(command.verbose), crash_log(job.root), RunStore(job.root) as run:
        store = run.of(job.config.student)
        if not is_report_finished(store):
            return False
        progress_for(command.quiet).log("report: up to date")
        show_summary(store, as_json=command.as_json)
        check_outcome(store)
        check_limits(store)
    return True


def write_kit(command: StageCommand, job: Job) -> int:
    """List the candidates and write the kit; the run's stored configuration does not name it."""
    with opened(command, job, _before_profile(job.config, "kit"), {"kit": {"file": command.kit}}) as (
        context,
        pipeline,
    ):
        with result_only():
            context = pipeline.run(context, only=("capture", "candidates", "kit"))
        show_passes(context.store, ("candidates", "kit"), as_json=command.as_json)
    return 0


def _before_profile(config: Config, *names: str, verb: str = "") -> tuple[str, ...]:
    """Return the passes of the pipeline that ``verb`` works in, with ``kit`` or ``import`` before profiling."""
    usual = order(config.search, config.shared, verb)
    place = usual.index("profile") if "profile" in usual else len(usual)
    return (*usual[:place], *names, *usual[place:])


def _run(command: StageCommand, names: Sequence[str], context: Context, pipeline: Pipeline, listener: Listener) -> None:
    """Run the verb's passes and print what came out, also where it is not verified."""
    unverified: UnverifiedError | None = None
    with result_only():
        try:
            context = pipeline.run(context, only=names, listener=listener)
        except UnverifiedError as error:
            unverified = error
    if not processes().main:
        return
    if names[-1] == "report":
        show_summary(context.store, as_json=command.as_json)
    else:
        show_passes(context.store, names[1:], as_json=command.as_json)
    if unverified is not None:
        raise unverified
    if names[-1] in ("verify", "report"):
        check_outcome(context.store)
    if names[-1] == "report":
        check_limits(context.store)


def run_demo(command: Command) -> int:
    """Do the whole job on the teacher of digits that is part of the package."""
    teacher = files(__name__.partition(".")[0]) / "examples" / "digits" / "teacher.pt"
    if not teacher.is_file():
        raise UsageError("the demo's teacher is not installed; clone the repository and run: make demo")
    with as_file(teacher) as path:
        given = {"budget": "0.45", "output": "runs/digits", **command.given, "subject": str(path), "data": "digits"}
        return run_stage(
            StageCommand(
                verb="optimize", given=given, as_json=command.as_json, verbose=command.verbose, quiet=command.quiet
            )
        )


def _check_words(command: StageCommand) -> None:
    for said, flag in ((command.latencies, "--import"), (command.export, "--export"), (command.dry_run, "--dry-run")):
        if command.kit is not None and said:
            raise UsageError(f"--kit and {flag} are two jobs; give one of them")


def _check_given(verb: str, job: Job) -> None:
    if processes().count > 1 and verb not in _SHARED:
        raise UsageError(
            f"{verb} runs in one process, and {processes().count} were started; "
            "start several for align and finetune only: "
            f"accelerate launch --no_python hant-opt finetune {job.root}"
        )
    if verb in _NEED_STUDENT:
        check_begun(job)
    if verb in _NEED_BUDGET and job.config.budget is None:
        raise UsageError(f"{verb} needs a budget; give --budget 0.45 (of the teacher's latency) or --budget 12ms")
    if verb in _NEED_DATA and job.config.data is None:
        raise UsageError(
            f"{verb} needs data; give --data digits, cifar10:DIR, imagefolder:DIR, package.module:function "
            "or file.py:function"
        )
