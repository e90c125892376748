"""Entry-point registry for passes, backends and operation families. Floor 0: imports nothing but errors.

Ours and a third party's are registered alike: ``[project.entry-points."hant.passes"]`` and so on.
Two plugins with one name are an error that names both.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from .errors import UsageError, nearest

Group = Literal["hant.passes", "hant.backends", "hant.op_libraries"]


@cache
def registered(group: Group) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name; a name claimed twice is an error."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = found.get(point.name)
        if other is not None and other.value != point.value:
            raise UsageError(
                f"two plugins of group {group} are named {point.name!r}: {other.value} and {point.value}; "
                "uninstall one of the packages"
            )
        found[point.name] = point
    return found


@cache
def load_plugin(group: Group, name: str) -> Any:
    """Import and return the object that ``name`` stands for in ``group``."""
    points = registered(group)
    if name not in points:
        kind = group.removeprefix("hant.").rstrip("s").replace("_", " ").replace("librarie", "library")
        kind = {"passe": "pass"}.get(kind, kind)
        raise UsageError(f"unknown {kind} {name!r}{nearest(name, points)}")
    return points[name].load()
