"""Whether a runtime computes what PyTorch does; the comparison is Polygraphy's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from polygraphy import comparator
from polygraphy.comparator import IterationResult
from polygraphy.logger import G_LOGGER

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Parity:
    """How far two lists of outputs are apart."""

    max_abs_difference: float
    """Infinite where shapes differ or a value is not finite in one of them only."""
    top1_agreement: float
    """Share of rows whose largest entry is in the same column, over the first output (N, classes)."""
    samples: int


def compare(actual: Sequence[Array], expected: Sequence[Array], max_abs: float) -> Parity:
    """Compare outputs (N, ...) of the runtime with those of the reference.

    ``max_abs`` is what still counts as equal; it decides nothing here, but Polygraphy wants to know it.
    """
    worst = 0.0
    with _quiet():
        equal = _comparison(atol=max_abs, rtol=0.0, check_error_stat="max", check_shapes=True)
        for ours, theirs in zip(actual, expected, strict=True):
            if ours.shape != theirs.shape or not np.array_equal(np.isfinite(ours), np.isfinite(theirs)):
                worst = float("inf")
                continue
            result = equal(IterationResult({"output": ours}), IterationResult({"output": theirs}))
            worst = max(worst, float(result["output"].max_absdiff))
    same = actual[0].reshape(len(actual[0]), -1).argmax(1) == expected[0].reshape(len(expected[0]), -1).argmax(1)
    return Parity(worst, float(same.mean()), len(expected[0]))


def _comparison(**options: object) -> Any:
    """Return Polygraphy's elementwise comparison, which its versions name differently."""
    newer = getattr(comparator, "SimpleCompareFunc", None)
    return newer(**options) if newer is not None else comparator.CompareFunc.simple(**options)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Polygraphy's own report off the terminal."""
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        yield
