"""Pools: named tuples of operations, kept as data."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, cast

from ..transformer.errors import UsageError, nearest
from ..transformer.plugins import load_plugin, registered
from ..transformer.tools.files import shipped
from ..transformer.tools.reading import read_toml
from ..transformer.tools.wildcards import matches
from .op_spec import Family, OpSpec
from .spaces import PREFIX, space

GROUP = "hant.op_libraries"


def pool(name: str | Path) -> tuple[OpSpec, ...]:
    """Return the operations of a pool, in order and each once.

    ``name`` is one of

    1. a pool that ships with hant: ``zero-shot``, ``fast`` or ``hant-197``;
    2. a TOML file (``.toml``) that holds a list ``operations``;
    3. a list with commas, such as ``teacher,identity,efnv2_*_se1.00``;
    4. ``space:NAME`` or ``space:FILE.toml``: all operations of a space's layers (``spaces.py``).

    Items of a list are names of operations, wildcards over the operations of all registered families, names of
    pools, and ``!item`` to take out what was named before it.

    Raises:
        UsageError: an item is unknown or matches nothing, with the nearest name; or the file cannot be read.
    """
    text = str(name).strip()
    if isinstance(name, Path) or (text.endswith(".toml") and PREFIX not in text):
        return _resolve(_read(Path(name)), f"pool {text}")
    items = [item.strip() for item in text.split(",") if item.strip()]
    if len(items) == 1 and items[0] not in builtin_pools() and not _is_wild(items[0]) and PREFIX not in items[0]:
        return (_single(items[0]),)
    return _resolve(items, f"pool {text!r}")


def operation(name: str) -> OpSpec:
    """Return the operation called ``name``, of the full pool or another of a family's pattern (``efn_7x7_e4_se0.5``).

    Raises:
        UsageError: no family knows the name; the message has the nearest one.
    """
    found = parsed(name)
    if found is None:
        raise UsageError(f"unknown operation {name!r}{nearest(name, _known())}")
    return found


@cache
def builtin_pools() -> dict[str, str]:
    """Return name and one-line description of the pools that ship with hant."""
    return {name: table["description"] for name, table in _builtin().items()}


def families() -> tuple[Family, ...]:
    """Return the registered families, ours and a third party's, sorted by name."""
    return tuple(cast(Family, load_plugin(GROUP, name)) for name in sorted(registered(GROUP)))


def _resolve(items: list[str], where: str) -> tuple[OpSpec, ...]:
    chosen: dict[str, OpSpec] = {}
    for item in items:
        out = item.startswith("!")
        for spec in _expand(item.removeprefix("!").strip(), where):
            if out:
                chosen.pop(spec.name, None)
            else:
                chosen.setdefault(spec.name, spec)
    if not chosen:
        raise UsageError(f"{where} has no operations; name at least one, such as teacher")
    return tuple(chosen.values())


def _expand(item: str, where: str) -> tuple[OpSpec, ...]:
    if item in _builtin():
        return _resolve(_builtin()[item]["operations"], f"pool {item}")
    if item.startswith(PREFIX):
        return _resolve(list(dict.fromkeys(name for names in space(item).choices.values() for name in names)), where)
    if not _is_wild(item):
        found = parsed(item)
        if found is None:
            raise UsageError(f"unknown operation {item!r} in {where}{nearest(item, [*_known(), *_builtin()])}")
        return (found,)
    matched = tuple(spec for spec in _members() if matches(spec.name, item))
    if not matched:
        raise UsageError(f"no operation matches {item!r} in {where}{nearest(item, _known())}")
    return matched


def _single(name: str) -> OpSpec:
    found = parsed(name)
    if found is None:
        raise UsageError(f"unknown pool {name!r}{nearest(name, [*_builtin(), *_known()])}")
    return found


def _read(path: Path) -> list[str]:
    hint = 'expected a list such as operations = ["teacher", "identity", "efnv2_*_se1.00"]'
    table = read_toml(path, f"pool {path}", UsageError, f"give one of {_names()}, or a file; {hint}")
    strange = sorted(set(table) - {"operations", "description"})
    if strange:
        raise UsageError(f"pool {path} has unknown key {strange[0]!r}; {hint}")
    items = table.get("operations")
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise UsageError(f"pool {path} has no list of names under 'operations'; {hint}")
    return items


def _names() -> str:
    return ", ".join(_builtin())


@cache
def _builtin() -> dict[str, dict[str, Any]]:
    return tomllib.loads(shipped(__name__, "pools.toml"))


@cache
def _members() -> tuple[OpSpec, ...]:
    return tuple(spec for family in families() for spec in family.specs())


def _known() -> list[str]:
    return [spec.name for spec in _members()]


def parsed(name: str) -> OpSpec | None:
    """Return the operation called ``name``, or None if no registered family knows it.

    Only the families whose prefix the name has are asked; the others are not even imported.
    """
    for prefix in sorted(registered(GROUP)):
        if name.startswith(prefix):
            spec = cast(Family, load_plugin(GROUP, prefix)).parse(name)
            if spec is not None:
                return spec
    return None


def _is_wild(item: str) -> bool:
    return any(sign in item for sign in "*?[!")
