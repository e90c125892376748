"""Signature dominance: entries that can be left out without losing the optimum, overlap constraints included."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .instance import Instance, Ints


def undominated(instance: Instance, earlier: NDArray[np.int64], entries: Ints) -> Ints:
    """Return those of ``entries``, sorted, that no other of them makes useless.

    Entry j is useless if some q of its block

    1. has no more loss;
    2. has no more of each cost, and as much where a cost has a lower limit;
    3. is used only by earlier selections (shape (K, N)) that use j too, so that q instead of j adds no overlap;
    4. differs in one of the three, or comes before j.
    """
    block = instance.block[entries]
    used = earlier[:, block] == entries
    start = np.searchsorted(block, np.arange(instance.blocks + 1))
    keep = np.ones(len(entries), dtype=np.bool_)
    for begin, end in pairwise(start):
        if end - begin < 2:
            continue
        mine = entries[begin:end]
        better = instance.loss[mine][:, None] <= instance.loss[mine][None]
        for row, low in zip(instance.cost[:, mine], instance.low, strict=True):
            better &= row[:, None] <= row[None] if np.isneginf(low) else row[:, None] == row[None]
        if len(earlier):
            signature = used[:, begin:end].astype(np.float32)
            # q's signature lies in j's if all of q's users use j: as many in common as q has
            better &= np.einsum("kq,kj->qj", signature, signature) >= signature.sum(axis=0)[:, None]
        equal = better & better.T
        better &= ~equal | (np.arange(end - begin)[:, None] < np.arange(end - begin)[None])
        keep[begin:end] = ~better.any(axis=0)
    return entries[keep]
