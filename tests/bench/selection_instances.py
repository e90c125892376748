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
