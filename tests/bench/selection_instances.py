"""Instances for the selection benchmarks: synthetic tables in the shape of the paper's, and tables from a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def synthetic(
    blocks: int = 46, operations: int = 197, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loss and latency tables of shape (blocks, operations); operation 0 is the teacher, 1 the identity.

    The teacher's latencies sum to 1. An operation costs 5 to 140 % of the teacher's block; its loss grows with the
    time it saves and with the block's sensitivity (log-normal, as measured sensitivities are), with 35 % noise.
    """
    random = np.random.default_rng(seed)
    teacher = random.lognormal(0.0, 0.6, blocks)
    sensitivity = random.lognormal(0.0, 1.0, blocks)
    share = np.concatenate(
        [np.tile([1.0, 0.0], (blocks, 1)), random.uniform(0.05, 1.4, (blocks, operations - 2))], axis=1
    )
    saved = np.clip(1 - share, 0, 1)
    loss = sensitivity[:, None] * (saved**1.7 + 0.02) * random.lognormal(0.0, 0.35, share.shape)
    loss[:, 0], loss[:, 1] = 0.0, 3 * sensitivity
    return loss, teacher[:, None] / teacher.sum() * share


def from_file(path: str) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Tables from a JSON file with ``loss`` and ``cost`` as lists of lists, rows may differ in length."""
    record = json.loads(Path(path).read_text())
    return [np.array(row) for row in record["loss"]], [np.array(row) for row in record["cost"]]


def gamma(blocks: int = 46, operations: int = 197, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tables with many cheap operations that cost hardly any loss: a selection has many near-optimal neighbours.

    As ``synthetic`` in shape; the teacher is operation 0 and the identity, free of cost, operation 1.
    """
    random = np.random.default_rng(seed)
    cost = random.gamma(2, 0.3, (blocks, operations))
    loss = np.maximum(0, random.gamma(1.5, 0.02, cost.shape) * np.clip(1.5 - cost, 0.05, None))
    teacher = random.uniform(0.5, 2, blocks)
    cost *= teacher[:, None]
    loss[:, 0], cost[:, 0] = 0.0, teacher
    cost[:, 1], loss[:, 1] = 0.0, random.gamma(2, 0.05, blocks)
    return loss, cost / teacher.sum()


def uniform(blocks: int = 46, operations: int = 197, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tables without any structure: every loss and latency uniform, independent of each other."""
    random = np.random.default_rng(seed)
    loss, cost = random.random((2, blocks, operations))
    loss[:, 0], cost[:, 0] = 0.0, 1.0
    return loss, cost / blocks


def correlated(
    blocks: int = 46, operations: int = 197, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tables whose losses follow from the time that is saved, up to 5 %: the hard kind of knapsack."""
    random = np.random.default_rng(seed)
    teacher = random.lognormal(0.0, 0.6, blocks)
    share = np.concatenate([np.ones((blocks, 1)), random.uniform(0.0, 1.0, (blocks, operations - 1))], axis=1)
    loss = random.uniform(0.5, 2, (blocks, 1)) * (1 - share) ** 2 * random.uniform(0.95, 1.05, share.shape)
    return loss, teacher[:, None] / teacher.sum() * share


def few(blocks: int = 27, operations: int = 15, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tables of a small pool in the shape of ``synthetic``: ResNet-56 with the pool ``fast``."""
    return synthetic(blocks, operations, seed)


FAMILIES = {
    "synthetic": synthetic,
    "gamma": gamma,
    "uniform": uniform,
    "correlated": correlated,
    "few": few,
}
"""Kinds of tables by name; the limit 0.45 is a share of the teacher's sum in each."""
