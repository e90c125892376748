"""The ladders of a block: operations of one kind, of which no wider one is as fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ....op_library.elastic import kind_of, width_of
from ....op_library.op_spec import OpSpec
from ....op_library.pools import operation
from ...latency.widths import non_dominated


@dataclass(frozen=True)
class Ladder:
    """Operations of one block that differ in their width only, the narrowest first; an operation alone is a ladder."""

    names: tuple[str, ...]
    ms: tuple[float, ...]
    """Of the lookup table, for each; rising."""


def ladders(operations: Mapping[str, float]) -> tuple[Ladder, ...]:
    """Return the ladders of a block from its operations with their latencies (ms), in the order of first names.

    Identity is no operation of a ladder, nor is the block's own operation, which stays as it is.
    """
    kinds: dict[OpSpec, list[OpSpec]] = {}
    for name in operations:
        if name != "identity":
            spec = operation(name)
            kinds.setdefault(kind_of(spec) or spec, []).append(spec)
    found = []
    for specs in kinds.values():
        ordered = sorted(specs, key=width_of)
        names = non_dominated([spec.name for spec in ordered], [operations[spec.name] for spec in ordered])
        found.append(Ladder(names, tuple(operations[name] for name in names)))
    return tuple(found)
