"""What a run was made from, and the command that makes it again."""

from __future__ import annotations

import dataclasses
import json
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...transformer.contracts.record import STUDENT
from ...transformer.contracts.store import Store
from ...transformer.plugins import load_plugin
from ...transformer.runs.records import RunRecord
from .schema import OriginReport


def origin(store: Store) -> OriginReport:
    """Return what the run was made from, by its record and its effective configuration."""
    bound = store.get(RunRecord, "run")
    path = store.path("config.toml")
    configuration = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "output" in configuration:
        configuration["output"] = _place(store, configuration["output"])
    facts = {} if bound is None else {"teacher": bound.teacher, "inputs": list(bound.inputs), "seed": bound.seed}
    return OriginReport(
        hant=version("hant"),
        data=(bound.data if bound is not None else None) or "",
        command=command(configuration | ({} if store.student == STUDENT else {"student": store.student})),
        configuration=configuration,
        **facts,  # type: ignore[arg-type]
    )


def _place(store: Store, written: str) -> str:
    """Return where the run lies: as it was written where that is still so, and as it is now for a run that moved."""
    root = store.root.resolve()
    if Path(written).resolve() == root:
        return written
    return str(root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else root)


def command(configuration: Mapping[str, Any]) -> str:
    """Return the line for a shell that asks for the same; options that are a pass's defaults are left out.

    It is empty where there is no configuration, or where a program gave an object for the model or the data: those
    are written ``<Name>`` in it.
    """
    named = [str(configuration.get(name, "")) for name in ("model", "data")]
    if not configuration or any(name.startswith("<") for name in named):
        return ""
    if not configuration.get("shared"):
        return shlex.join(["hant-opt", *_words(configuration)])
    names = {"budget": "budgets", "target": "targets"}  # and students' names are made of them
    said = {names.get(name, name): v for name, v in configuration.items() if name not in ("shared", "student")}
    return shlex.join(["hant-opt", "shrink", *_words(said)])


def _words(configuration: Mapping[str, Any]) -> Iterator[str]:
    for name, value in configuration.items():
        if name == "model":
            yield str(value)
        elif name == "passes":
            for stage, table in value.items():
                for option, setting in changed(stage, table).items():
                    yield from ("--set", f"{stage}.{option}={json.dumps(setting, ensure_ascii=False)}")
        else:
            yield from _flag(f"--{name.replace('_', '-')}", value)


def _flag(flag: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool):
        yield from [flag] * value
    elif isinstance(value, list):
        for item in value:
            yield from (flag, str(item))
    else:
        yield from (flag, json.dumps(value) if isinstance(value, Mapping) else str(value))


def changed(stage: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a pass that are not its defaults."""
    fields = {field.name: field for field in dataclasses.fields(load_plugin("hant.passes", stage))}
    return {name: value for name, value in table.items() if value != plain(fields[name])}


def plain(field: dataclasses.Field[Any]) -> Any:
    """Return a field's default as a configuration file holds it."""
    made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    return list(made) if isinstance(made, tuple) else made
