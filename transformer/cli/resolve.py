"""From flags to a configuration and a run directory.

1. A directory that holds ``config.toml`` or ``run.sqlite`` is a RUN: its stored configuration holds, flags change it.
2. Anything else is a MODEL: ``--config`` and flags are the whole configuration, flags win. Its run is ``--output``,
   or ``runs/MODEL-TARGET``. If that run exists, the command goes on with it.
3. A student that ``--student`` names has settings of its own in the run; what all students have in common is the run's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contracts.record import STUDENT
from ..errors import UsageError
from ..pipeline.config import FILE, Config, declared, dump, make, merge, read
from ..pipeline.session import default_output
from ..pipeline.students import common_to, is_begun, stored_for
from ..pipeline.trust import mark_foreign
from ..tools.reading import bounded, parse_json


@dataclass(frozen=True)
class Job:
    """What one command is about."""

    config: Config
    root: Path
    """Directory of the run."""
    from_run: bool
    """Whether the stored configuration of the run was used."""
    changed: bool = True
    """Whether the command says anything else than that."""


def resolve(flags: Mapping[str, Any]) -> Job:
    """Return the job that the flags ask for.

    Raises:
        UsageError: unknown options, unreadable values, ``--output`` beside a run, ``--resume`` without one.
    """
    subject, changed = flags.get("subject"), True
    given = merge(read(Path(flags["config"])) if flags.get("config") else {}, values(flags))
    from_run = subject is not None and is_run(Path(subject))
    if subject is not None and not from_run:
        given = merge(given, {"model": subject})
    config = make(given, flags.get("config") or "flags")
    root = Path(str(subject)) if from_run else Path(config.output or default_output(config))
    if from_run and flags.get("output") and Path(flags["output"]).resolve() != root.resolve():
        raise UsageError(f"{subject} is a run and --output names another; give the model instead of the run")
    if from_run or (config.student != STUDENT and (root / FILE).is_file()):
        from_run, where = True, str(root / FILE)
        table = _stored(root, config.student, given) | {"output": str(root)}
        stored = make(table, where)
        config = mark_foreign(make(merge(table, given, {"output": str(root)}), where), root, stored, given)
        changed = dump(config) != dump(stored)
    if flags.get("resume") and not is_run(root):
        raise UsageError(f"--resume: there is no run at {root}; leave --resume out to begin one")
    return Job(config, root, from_run, changed)


def is_run(path: Path) -> bool:
    """Return whether ``path`` is a run directory."""
    return path.is_dir() and ((path / FILE).is_file() or (path / "run.sqlite").is_file())


def values(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration values that flags give."""
    given = {name: flags[name] for name in declared(Config) if flags.get(name) not in (None, [], ())}
    if "arch_kwargs" in given:
        given["arch_kwargs"] = _table(given["arch_kwargs"])
    for item in flags.get("settings") or ():
        given = merge(given, {"passes": _setting(item)})
    return given


def check_begun(job: Job) -> None:
    """Refuse to go on with a student that was never begun.

    Raises:
        UsageError: names the way to begin it.
    """
    name = job.config.student
    if name != STUDENT and not is_begun(job.root, name):
        raise UsageError(
            f"run {job.root} has no student {name!r}; hant-opt inspect {job.root} lists them, and hant-opt select "
            f"{job.root} --student {name} --budget 0.45 begins it"
        )


def _stored(root: Path, student: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if not (root / FILE).is_file():
        raise UsageError(f"run {root} has no {FILE}; give the model and --output {root} instead")
    if student != STUDENT:
        common_to(root, given)
    return stored_for(root, student)


def _table(text: str) -> dict[str, Any]:
    table = parse_json(text, "--arch-kwargs", UsageError, 'expected JSON such as {"width": 2}')
    if not isinstance(table, dict):
        raise UsageError(f'--arch-kwargs: expected a JSON object such as {{"width": 2}}, got {text!r}')
    return table


def _setting(item: str) -> dict[str, dict[str, Any]]:
    """Read ``finetune.epochs=5``; the value is TOML, or text where it is not."""
    path, equals, text = item.partition("=")
    stage, dot, option = path.strip().partition(".")
    if not (equals and dot and stage and option):
        raise UsageError(f"--set: cannot read {item!r}; expected PASS.OPTION=VALUE such as finetune.epochs=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except RecursionError as error:
        raise UsageError(f"--set {path.strip()}: nested too deep; give a number, a text or a list") from error
    except ValueError:
        value = text
    bounded(value, f"--set {path.strip()}", UsageError, "give a number, a text or a list")
    return {stage: {option.replace("-", "_"): value}}
