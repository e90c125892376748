"""The ladders of a block: operations of one kind, of which no wider one is as fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ....op_library.elastic import kind_of
from ....op_library.op_spec import OpSpec
from ....op_library.pools import operation

_AS_FAST = 1.02
"""A width is left out where a larger one takes at most this much of its time: latency often rises in steps."""


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
        ordered = sorted(specs, key=_width)
        names = non_dominated([spec.name for spec in ordered], [operations[spec.name] for spec in ordered])
        found.append(Ladder(names, tuple(operations[name] for name in names)))
    return tuple(found)


def non_dominated(names: Sequence[str], ms: Sequence[float]) -> tuple[str, ...]:
    """Return the widths that are worth having, of ``names`` from narrow to wide that take ``ms``."""
    return tuple(
        name
        for place, (name, own) in enumerate(zip(names, ms, strict=True))
        if all(other > own * _AS_FAST for other in ms[place + 1 :])
    )


def _width(spec: OpSpec) -> float:
    return float(getattr(spec, spec.elastic)) if spec.elastic else 0.0
