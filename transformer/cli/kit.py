"""``--kit`` and ``--import``: latencies that a device measures by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..pipeline.build import build_pipeline
from ..pipeline.config import Config
from ..pipeline.default import DEFAULT_PASSES
from ..pipeline.pipeline import Pipeline
from ..pipeline.session import load_materials, open_run, save_config
from .crash import crash_log
from .progress import progress_for
from .resolve import resolve
from .streams import hush, result_only
from .summary import show_passes


def run_kit(verb: str, flags: dict[str, Any]) -> int:
    """List the candidates and write the kit; the run's stored configuration does not name it."""
    _check(verb, flags)
    job = resolve(flags)
    if flags["save_config"]:
        save_config(job.config, Path(flags["save_config"]))
    hush(flags["verbose"])
    with crash_log(job.root):
        with result_only():
            progress = progress_for(flags["quiet"])
            pipeline = with_pass(job.config, "kit", flags["kit"])
            materials = load_materials(job.config)
        with open_run(job.config, job.root, materials, build_pipeline(job.config), progress, ()) as context:
            with result_only():
                context = pipeline.run(context, only=("capture", "candidates", "kit"))
            show_passes(context.store, ("candidates", "kit"), as_json=flags["as_json"])
    return 0


def with_pass(config: Config, name: str, file: str) -> Pipeline:
    """Return the default pipeline with the pass ``kit`` or ``import``, which is given a file, before profiling."""
    options = {**config.passes, name: {**config.passes.get(name, {}), "file": file}}
    place = DEFAULT_PASSES.index("profile")
    names = (*DEFAULT_PASSES[:place], name, *DEFAULT_PASSES[place:])
    return build_pipeline(config.model_copy(update={"passes": options}), names)


def _check(verb: str, flags: dict[str, Any]) -> None:
    if verb != "profile":
        raise UsageError(f"--kit goes with profile, not {verb}: hant-opt profile MODEL_OR_RUN --kit {flags['kit']}")
    for name, flag in (("latencies", "--import"), ("dry_run", "--dry-run")):
        if flags[name]:
            raise UsageError(f"--kit and {flag} are two jobs; give one of them")
