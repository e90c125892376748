"""From a configuration to passes: every pass is made from its options by name, through the plugin registry."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from ...passes.reporting.origin import plain
from ..contracts.budget import Budget
from ..contracts.pass_ import Pass
from ..errors import UsageError, nearest
from ..plugins import load_plugin, registered
from .config import Config, declared
from .default import PASSES, order
from .paths import anchored
from .pipeline import Pipeline

_HANDED = {name: flag for name, (_, flag) in declared(Config).items() if flag.handed}
"""Options of the whole that passes take by field name."""


def build_pipeline(config: Config, names: Sequence[str] | None = None) -> Pipeline:
    """Return the pipeline of the named passes, by default those of its search, with the configuration's options.

    Raises:
        UsageError: an unknown pass or option (with the nearest name), or a value that does not fit.
    """
    names = order(config.search, config.shared) if names is None else names
    for name in config.passes:
        if name not in names and name not in PASSES:
            raise UsageError(
                f"unknown pass {name!r} in [passes.{name}]{nearest(name, {*names, *registered('hant.passes')})}"
            )
    shared = shared_options(config)
    made = {
        name: build_pass(load_plugin("hant.passes", name), config.passes.get(name, {}), shared)
        for name in dict.fromkeys((*names, *config.passes))  # a slip in another engine's options is told all the same
    }
    return Pipeline(_acquainted([made[name] for name in names]))


def _acquainted(passes: Sequence[Pass]) -> list[Pass]:
    """Give each pass that has another one for a field (rank aligns its finalists) the one of this pipeline."""
    known = {stage.name: stage for stage in passes}

    def fields(stage: Pass) -> dict[str, Any]:
        names = (field.name for field in dataclasses.fields(stage) if isinstance(getattr(stage, field.name), Pass))
        return {name: known[name] for name in names if name in known}

    for stage in passes:  # in order: what a pass is given has been given its own
        known[stage.name] = dataclasses.replace(stage, **fields(stage))
    return list(known.values())


def shared_options(config: Config) -> dict[str, Any]:
    """Return the options of the whole that were given."""
    values = {name: getattr(config, name) for name in _HANDED} | {"budget": config.parsed_budget()}
    return {name: value for name, value in values.items() if value not in (None, ())}


def build_pass(kind: type[Pass], table: dict[str, Any], shared: dict[str, Any]) -> Pass:
    """Make a pass from its own table, which wins, and the shared options that it has fields for."""
    fields = {field.name for field in dataclasses.fields(kind)}
    for option in table:
        if option not in fields:
            raise UsageError(f"unknown option {option!r} of pass {kind.name!r}{nearest(option, fields)}")
    taken = {name: value for name, value in shared.items() if name in fields and _takes(kind.name, name)}
    hints = typing.get_type_hints(kind, include_extras=True)
    return kind(**taken | {name: coerce(value, hints[name], f"{kind.name}.{name}") for name, value in table.items()})


def _takes(stage: str, option: str) -> bool:
    """Return whether the pass, if it has a field of that name, is given the shared option."""
    flag = _HANDED.get(option)
    return flag is not None and (flag.handed == "any" or stage in flag.used_by)


def coerce(value: Any, hint: Any, where: str) -> Any:
    """Return ``value`` as the type of a pass's field.

    Raises:
        UsageError: it does not fit.
    """
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if Budget in kinds and isinstance(value, str | int | float):
        return Budget.parse(str(value))
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].lower()
        raise UsageError(f"option {where}: {reason} (got {value!r:.80})") from error


def _adapter(hint: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # models and dataclasses bring their own configuration
        return TypeAdapter(hint)


def effective(config: Config, pipeline: Pipeline) -> Config:
    """Return the configuration with every option of every pass written out, shared ones left where they are.

    Paths are whole, so that it means the same in any working directory.
    """
    tables = {name: table for name, table in config.passes.items() if name not in pipeline.names}
    for stage in pipeline.passes:
        values = {field.name: getattr(stage, field.name) for field in dataclasses.fields(stage)}
        own = config.passes.get(stage.name, {})
        kept = {
            name: value
            for name, value in values.items()
            if name in own
            or (not _takes(stage.name, name) and isinstance(value, bool | int | float | str | list | tuple))
        }
        if kept:
            tables[stage.name] = {name: own.get(name, value) for name, value in kept.items()}
    tables = {name: tables[name] for name in (*config.passes, *tables) if name in tables}  # as they were written before
    return config.model_copy(update={"passes": tables, **anchored(config)})


def defaults(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """Return what the options of the passes are where nothing is said, by pass, as TOML has it."""
    return {stage.name: {field.name: plain(field) for field in dataclasses.fields(stage)} for stage in pipeline.passes}
