"""How every command opens the run that it is about."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..contracts.context import Context
from ..contracts.progress import Progress
from ..pipeline.build import build_pipeline
from ..pipeline.config import Config, merge
from ..pipeline.default import PASSES, order
from ..pipeline.pipeline import Pipeline
from ..pipeline.session import load_materials, open_run, scratch_context
from ..runs.processes import processes
from .crash import crash_log
from .options import ModelCommand, StudyCommand
from .progress import progress_for
from .resolve import Job
from .streams import hushed, result_only


@contextmanager
def opened(
    command: ModelCommand | StudyCommand,
    job: Job,
    passes: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    kept: Config | None = None,
    only: Collection[str] = (),
    scratch: bool = False,
) -> Iterator[tuple[Context, Pipeline]]:
    """Load what the job names, open its run, and yield the context with the pipeline of ``passes``.

    Args:
        command: what was said; how loud to be.
        job: configuration and place of the run.
        passes: names, in order; the default pipeline's if left out.
        options: of single passes, for this command only.
        kept: the configuration that the run keeps; the job's if left out.
        only: passes that will run, whose requirements are checked before the configuration is kept.
        scratch: work in a run that is deleted at the end, and leave the job's as it is.
    """
    config = job.config.model_copy(update={"passes": merge(job.config.passes, options or {})})
    kept = kept or job.config
    with hushed(command.verbose), crash_log(job.root):
        with result_only():
            pipeline = build_pipeline(config, passes)
            materials = load_materials(job.config)
        progress = progress_for(command.quiet) if processes().main and not scratch else Progress()
        if command.unused:
            flags = ", ".join(command.unused)
            progress.log(f"{command.verb} has no use for {flags} itself; the run keeps what is said")
        if scratch:
            opening = scratch_context(job.config, materials)
        else:
            tables = {name: table for name, table in kept.passes.items() if name in PASSES}
            kept = kept.model_copy(update={"passes": tables})
            usual = build_pipeline(kept, order(kept.search, kept.shared, command.verb))
            opening = open_run(kept, job.root, materials, usual, progress, only)
        with opening as context:
            yield context, pipeline
