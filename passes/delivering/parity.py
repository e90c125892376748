"""Whether a runtime computes what PyTorch does; the comparison is Polygraphy's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from polygraphy import comparator
from polygraphy.comparator import IterationResult
from polygraphy.logger import G_LOGGER
from torch import Tensor

from ...transformer.errors import UnverifiedError
from ...transformer.tools.nested import map_leaves, tensors

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Difference:
    """The largest difference of two lists of outputs; infinite where shapes or what is finite differ."""

    absolute: float
    scaled: float
    """Over the largest absolute value of its output, where that is above 1: rounding errors grow with the values."""

    def __or__(self, other: Difference) -> Difference:
        """Return the larger of both, each figure by itself."""
        return Difference(max(self.absolute, other.absolute), max(self.scaled, other.scaled))


@dataclass(frozen=True)
class Parity:
    """How far two lists of outputs are apart."""

    difference: Difference
    top1_agreement: float | None
    """Share of rows whose largest entry is in the same column, of outputs (N, classes); None where there are none."""
    samples: int


def compare(actual: Sequence[Array], expected: Sequence[Array], max_abs: float) -> Difference:
    """Return the largest difference of the runtime's outputs from the reference's.

    ``max_abs`` is what still counts as equal; it decides nothing here, but Polygraphy wants to know it.
    """
    worst = Difference(0.0, 0.0)
    with _quiet():
        equal = _comparison(atol=max_abs, rtol=0.0, check_error_stat="max", check_shapes=True)
        for ours, theirs in zip(actual, expected, strict=True):
            if ours.shape != theirs.shape or not np.array_equal(np.isfinite(ours), np.isfinite(theirs)):
                return Difference(math.inf, math.inf)
            result = equal(IterationResult({"output": ours}), IterationResult({"output": theirs}))
            found = float(result["output"].max_absdiff)
            worst |= Difference(found, found / _scale(theirs))
    return worst


def _scale(values: Array) -> float:
    """Return the largest absolute value that is finite, at least 1."""
    finite = np.abs(values[np.isfinite(values)].astype(np.float64))
    return max(1.0, float(finite.max(initial=0.0)))


def agreement(actual: Array, expected: Array) -> float:
    """Return the share of rows (N, classes) whose largest entry is in the same column."""
    ours, theirs = (rows.reshape(len(rows), -1).argmax(1) for rows in (actual, expected))
    return float((ours == theirs).mean())


def as_outputs(arrays: Sequence[Array], like: Any) -> Any:
    """Return what a runtime made in the form of ``like``, which is what the network itself returns.

    Raises:
        UnverifiedError: the runtime returns another number of tensors.
    """
    expected = len(tensors(like))
    if len(arrays) != expected:
        raise UnverifiedError(
            f"the runtime returns {len(arrays)} tensors, the network in PyTorch {expected}: outputs cannot be compared"
        )
    made = iter(arrays)
    return map_leaves(
        like, lambda leaf: torch.from_numpy(next(made)).to(leaf.dtype) if isinstance(leaf, Tensor) else leaf
    )


def _comparison(**options: object) -> Any:
    """Return Polygraphy's elementwise comparison, which its versions name differently."""
    newer = getattr(comparator, "SimpleCompareFunc", None)
    return newer(**options) if newer is not None else comparator.CompareFunc.simple(**options)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Polygraphy's own report off the terminal."""
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        yield
