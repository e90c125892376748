"""The settings of a run's students: what all have in common is kept once, the rest by each student."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..contracts.pass_ import pass_scope
from ..contracts.record import STUDENT, Scope
from ..errors import UsageError
from ..plugins import load_plugin, registered
from ..runs.students import folder
from .changes import flags_of
from .config import FILE, Config, declared, dump, make, merge, read_stored
from .paths import anchored

_COMMON = {"model", *(name for name, (_, flag) in declared(Config).items() if flag.common)}


def stored_for(root: Path, student: str) -> dict[str, Any]:
    """Return the configuration that the run at ``root`` holds for a student.

    One that is not begun yet begins with the settings of the one that need not be named. Options that passes had in
    earlier versions only are left out: the passes that have run without them tell by themselves.

    Raises:
        LoadError: missing, unreadable or not TOML.
        StorageError: the run holds links.
    """
    run, own = _known(read_stored(root)), folder(root, student)
    if student == STUDENT:
        return run
    kept = _known(read_stored(own)) if (own / FILE).is_file() else run
    return merge(_part(kept, common=False), _part(run, common=True))


def common_to(root: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what all students of the run have in common.

    Raises:
        UsageError: ``given``, which one student is to be made with, says something else.
    """
    run = _part(read_stored(root), common=True)
    before = make(run, str(root / FILE))
    now = make(merge(run, _part(given, common=True)), str(root / FILE))
    flags = flags_of(dump(before), dump(now.model_copy(update=anchored(now))))
    if flags:
        raise UsageError(
            f"run {root}:{flags} would change what all its students have in common; give it without a student's name"
        )
    return run


def is_begun(root: Path, student: str) -> bool:
    """Return whether the run at ``root`` holds settings of the student."""
    return (folder(root, student) / FILE).is_file()


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """Return a stored configuration without options that its passes have no more; what is no pass here stays."""
    tables = values.get("passes")
    if not isinstance(tables, dict):
        return values
    kept = {
        name: {option: value for option, value in table.items() if option in _options(name)}
        if isinstance(table, dict) and name in registered("hant.passes")
        else table
        for name, table in tables.items()
    }
    return values | {"passes": kept}


def _options(stage: str) -> set[str]:
    return {field.name for field in dataclasses.fields(load_plugin("hant.passes", stage))}


def _part(values: Mapping[str, Any], *, common: bool) -> dict[str, Any]:
    """Return what of a configuration all students have in common, or the rest: a student's own."""
    part = {name: value for name, value in values.items() if name != "passes" and (name in _COMMON) is common}
    tables = values.get("passes", {})
    kept = {name: table for name, table in tables.items() if _is_common(name) is common}
    return part | ({"passes": kept} if kept else {})


def _is_common(stage: str) -> bool:
    return Scope.STUDENT not in pass_scope(stage)
