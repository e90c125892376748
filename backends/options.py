"""What target files ask of every runtime alike."""

from __future__ import annotations

from collections.abc import Collection

from ..transformer.contracts.target import Target
from ..transformer.errors import UsageError, nearest


def check_options(target: Target, known: Collection[str]) -> None:
    """Refuse options that the runtime does not have.

    Raises:
        UsageError: names the option and the nearest known one.
    """
    for name in target.options:
        if name not in known:
            raise UsageError(f"target {target.name!r}: unknown option {name!r}{nearest(name, known)}")


def thread_count(target: Target) -> int:
    """Return how many threads one operator may use (1).

    Raises:
        UsageError: not a whole number of at least 1.
    """
    count = target.options.get("threads", 1)
    if not isinstance(count, int) or count < 1:
        raise UsageError(f"target {target.name!r}: threads is {count!r}; expected a whole number of at least 1")
    return count


def asked(target: Target) -> dict[str, str]:
    """Return the part of a latency's provenance that the target's file decides."""
    return {
        "precision": target.precision,
        "batch_size": str(target.batch_size),
        "options": ", ".join(f"{key}={value}" for key, value in sorted(target.options.items())),
    }
