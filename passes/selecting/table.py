"""The table that selection works on: loss change and costs of every operation that can be chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...transformer.contracts.store import Store
from ...transformer.errors import UsageError
from ...transformer.ir.graph import Graph
from ..candidates.records import OperationRecord
from ..latency.table import operation_ms, slower
from ..pretraining.records import CandidateRecord
from ..scoring.records import ScoreRecord

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SearchTable:
    """Rows are blocks in order of execution; each block has its own operations, the teacher's first."""

    blocks: tuple[str, ...]
    operations: tuple[tuple[str, ...], ...]
    loss: tuple[Floats, ...]
    """Change of cross-entropy, the teacher's operation at 0 (HANT section 2.2, vectors a_i)."""
    cost: dict[str, tuple[Floats, ...]]
    """Vectors b_i: ``ms`` the lookup table's raw latencies, ``params``, ``macs``, ``memory`` of the weights (bytes)."""

    def choice(self, indices: NDArray[np.int64]) -> dict[str, str]:
        """Return {block: operation} for one index a block."""
        return {b: ops[i] for b, ops, i in zip(self.blocks, self.operations, indices.tolist(), strict=True)}

    def indices(self, choice: dict[str, str]) -> NDArray[np.int64]:
        """Return the index of each block's operation in ``choice``."""
        rows = zip(self.blocks, self.operations, strict=True)
        return np.array([ops.index(choice[block]) for block, ops in rows], dtype=np.int64)

    def holds(self, choice: Mapping[str, str]) -> bool:
        """Return whether each of these operations can be chosen for its block."""
        known = dict(zip(self.blocks, self.operations, strict=True))
        return all(operation in known.get(block, ()) for block, operation in choice.items())

    def total(self, name: str, choice: dict[str, str]) -> float:
        """Return the summed cost ``name`` of a choice."""
        return float(sum(row[i] for row, i in zip(self.cost[name], self.indices(choice), strict=True)))

    def fastest(self) -> NDArray[np.int64]:
        """Return the index of each block's fastest operation."""
        return np.array([int(row.argmin()) for row in self.cost["ms"]], dtype=np.int64)

    def teacher(self) -> dict[str, str]:
        """Return the choice that leaves the teacher as it is."""
        return dict.fromkeys(self.blocks, "teacher")


def search_table(store: Store, graph: Graph) -> SearchTable:
    """Build the table from the records of a run: of each replaceable block the scored candidates that are not left out
    and not slower than the block's own operation.

    Raises:
        UsageError: there is nothing to choose from.
    """
    losses = {key: record.delta for key, record in store.all(ScoreRecord).items() if not record.left_out}
    return table_of(store, graph, losses, "none is scored; run: hant-opt score RUN")


def error_table(store: Store, graph: Graph) -> SearchTable:
    """Build the table without scores: the loss is pretraining's own error (NMSE), that of the teacher's operation 0.

    Raises:
        UsageError: there is nothing to choose from.
    """
    errors = {key: record.nmse for key, record in store.all(CandidateRecord).items() if record.nmse is not None}
    return table_of(store, graph, errors, "none is trained; run: hant-opt pretrain RUN")


def known_table(store: Store, graph: Graph) -> SearchTable:
    """Return the table of scores where the run has any, otherwise that of pretraining's errors.

    For whoever needs only what can be chosen, and what it costs.
    """
    return search_table(store, graph) if store.count(ScoreRecord.kind) else error_table(store, graph)


def table_of(store: Store, graph: Graph, losses: Mapping[str, float], remedy: str) -> SearchTable:
    """Return the table of the ready candidates that have a loss, by ``block/operation``."""
    names = [block.name for block in graph.replaceable]
    candidates, listed, slow = store.all(CandidateRecord), store.all(OperationRecord), slower(store)
    latencies = operation_ms(store)
    rows: dict[str, list[tuple[str, float, float, float, float, float]]] = {name: [] for name in names}
    for key, record in candidates.items():
        facts = listed.get(key)
        fits = facts is not None and facts.fits and record.state == "ready" and key not in slow
        if facts is None or not fits or record.block not in rows or key not in losses:
            continue
        ms = latencies[facts.latency_key]
        numbers = (losses[key], ms, facts.parameters, facts.macs, 4 * facts.parameters)
        rows[record.block].append((record.operation, *numbers))
    empty = [name for name in names if not rows[name]]
    if empty or not names:
        where = empty[0] if empty else "the network"
        raise UsageError(f"no operation can be chosen for {where}: {remedy}")
    ordered = [sorted(rows[name], key=lambda row: (row[0] != "teacher", row[0])) for name in names]
    return SearchTable(
        blocks=tuple(names),
        operations=tuple(tuple(row[0] for row in block) for block in ordered),
        loss=tuple(np.array([row[1] for row in block]) for block in ordered),
        cost={
            name: tuple(np.array([row[column] for row in block], dtype=np.float64) for block in ordered)
            for column, name in ((2, "ms"), (3, "params"), (4, "macs"), (5, "memory"))
        },
    )
