"""A better proxy than the plain sum of loss changes, if there is one.

A single candidate's loss change can be huge where the loss saturates, and changes in different stages do not weigh
the same once others are there too. The corrected sum is still one number a candidate, so selection stays a linear
program: ``weight of the stage x sign(a) |a|^power`` in place of ``a``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import kendalltau, spearmanr

from ...transformer.contracts.store import Store
from .records import ProxyRecord
from .table import Floats, SearchTable

Ints = NDArray[np.int64]
POWERS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)


@dataclass(frozen=True)
class Correction:
    """What each loss change counts as."""

    power: float
    weights: tuple[float, ...]
    """Of each block."""

    def apply(self, table: SearchTable) -> SearchTable:
        """Return the table with corrected loss changes; their unit is no longer that of the cross-entropy."""
        return replace(table, loss=powers(table, self.power, self.weights))


def powers(table: SearchTable, power: float, weights: Sequence[float]) -> tuple[Floats, ...]:
    """Return ``weight x sign(a) |a|^power`` of every loss change a."""
    return tuple(w * np.sign(row) * np.abs(row) ** power for w, row in zip(weights, table.loss, strict=True))


def fit(table: SearchTable, stages: Sequence[int], choices: Sequence[Ints], losses: Sequence[float]) -> Correction:
    """Return the correction that ranks ``losses`` (cross-entropy of ``choices``) best, by tau in cross-validation.

    Tried are all powers, each with one weight, a weight per stage and a weight per block, fitted to the logarithm of
    the loss by non-negative least squares.

    Args:
        table: the plain loss changes.
        stages: stage of each block, counted from 0.
        choices: index of each block's operation, shape (N,), one array a network.
        losses: real cross-entropy of each network.
    """
    best, score = Correction(1.0, (1.0,) * len(table.blocks)), -math.inf
    for power in POWERS:
        for groups in ([0] * len(stages), list(stages), list(range(len(stages)))):
            found = _cross_validated(table, groups, power, choices, losses)
            if found > score + 1e-9:
                score = found
                best = Correction(power, _weights(table, groups, power, choices, losses))
    return best


def objectives(table: SearchTable, choices: Sequence[Ints]) -> Floats:
    """Return the sum of loss changes of each choice."""
    return np.array([math.fsum(row[i] for row, i in zip(table.loss, c, strict=True)) for c in choices])


def kendall(first: Sequence[float] | Floats, second: Sequence[float] | Floats) -> float:
    """Return Kendall's tau-b; 0 where one side is constant."""
    value = float(kendalltau(np.asarray(first), np.asarray(second)).statistic)
    return value if math.isfinite(value) else 0.0


def spearman(first: Sequence[float] | Floats, second: Sequence[float] | Floats) -> float:
    """Return Spearman's rank correlation; 0 where one side is constant."""
    one, other = np.asarray(first), np.asarray(second)
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one, other).statistic)


def corrected_table(store: Store, table: SearchTable) -> SearchTable:
    """Return the table with the correction that the run's proxy study kept; as it is where none was kept."""
    record = store.get(ProxyRecord, "proxy")
    if record is None or not record.kept or set(record.weights) != set(table.blocks):
        return table
    return Correction(record.power, tuple(record.weights[block] for block in table.blocks)).apply(table)


def _features(table: SearchTable, groups: Sequence[int], power: float, choices: Sequence[Ints]) -> Floats:
    """Return the sum of powers per stage and network, shape (networks, stages)."""
    rows = powers(table, power, (1.0,) * len(table.blocks))
    found = np.zeros((len(choices), max(groups) + 1))
    for network, choice in enumerate(choices):
        for group, row, i in zip(groups, rows, choice, strict=True):
            found[network, group] += row[i]
    return found


def _weights(
    table: SearchTable, groups: Sequence[int], power: float, choices: Sequence[Ints], losses: Sequence[float]
) -> tuple[float, ...]:
    """Return the weight of each block; never 0, so that no loss change is forgotten."""
    features = _features(table, groups, power, choices)
    # The constant is the teacher's; its sign is free, so it is split in two.
    constant = np.ones((len(features), 1))
    solution, _ = nnls(np.hstack([features, constant, -constant]), np.log(np.maximum(losses, 1e-12)))
    stage = np.maximum(solution[:-2], 0.02 * max(float(solution[:-2].max()), 1e-12))
    return tuple(float(stage[group]) for group in groups)


def _cross_validated(
    table: SearchTable, groups: Sequence[int], power: float, choices: Sequence[Ints], losses: Sequence[float]
) -> float:
    """Return the mean tau on the third that was not fitted to."""
    scores = []
    for part in range(3):
        inside = [i for i in range(len(choices)) if i % 3 != part]
        outside = [i for i in range(len(choices)) if i % 3 == part]
        weights = _weights(table, groups, power, [choices[i] for i in inside], [losses[i] for i in inside])
        changed = Correction(power, weights).apply(table)
        scores.append(kendall(objectives(changed, [choices[i] for i in outside]), [losses[i] for i in outside]))
    return float(np.mean(scores))
