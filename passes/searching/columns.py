"""New widths for the integer program: columns that it would take, found by what its own dual says latency is worth.

The dual of the budget is a price of a millisecond; how a block's scores follow from its candidates' errors is a price
of an error. At these two a Prunode of the block, trained on the teacher's features, walks to one width (PruNet 3.2.1),
which becomes a candidate if its reduced cost is below zero, so that the program could do better with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar

import numpy as np
import torch

from ...op_library.elastic import Elastic, kind_of, width_of
from ...op_library.op_spec import OpSpec
from ...op_library.pools import operation
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Amount, Count, PassResult
from ...transformer.data.images import batches, shuffled, size
from ...transformer.data.splits import split, take
from ...transformer.ir.block import Block
from ...transformer.tools.files import slug
from ...transformer.tools.seeds import derived_seed
from ..candidates.candidates import listed
from ..candidates.records import OperationRecord
from ..latency.profile import measure_missing
from ..latency.table import operation_ms
from ..latency.widths import non_dominated
from ..networks.assemble import CandidateWeights
from ..networks.placement import placed
from ..pretraining.engine import estimate, measure, variances
from ..pretraining.pretrain import HELD_OUT
from ..pretraining.recipe import Recipe, resolve
from ..pretraining.records import CandidateRecord
from ..pretraining.trainer import Trainer
from ..pretraining.unit import MEASURE_BATCH
from ..scoring.score import ScorePass
from ..selecting.select import SelectPass, settle
from ..selecting.solver.dual import solve_dual
from ..selecting.solver.instance import build
from ..selecting.solver.problem import SelectionProblem
from ..selecting.table import SearchTable, search_table
from .prunet.ladder import Ladder
from .prunet.outcome import made_of
from .prunet.supernet import elastic_of
from .prunet.widening import Widening, Worth
from .records import ColumnRecord

_LEAST = -1e-6
"""Reduced cost (nats) from which on a column is worth having."""


@dataclass(frozen=True)
class Lead:
    """A ladder of a block that may hold a width worth having."""

    block: int
    """Index in the table."""
    names: tuple[str, ...]
    """Operations from narrow to wide, the widest of them trained."""
    promise: float
    """Least reduced cost of the widths that are known (nats)."""


@dataclass(frozen=True)
class ColumnsPass(SelectPass):
    """Add widths to the candidates as long as the integer program would take them, then select."""

    name: ClassVar[str] = "columns"
    requires: ClassVar[tuple[str, ...]] = ("operation", "candidate", *SelectPass.requires)

    rounds: Amount = 3
    """Times that prices are taken and new widths looked for, at most."""
    most: Count = 8
    """Ladders that are walked along in a round, those of the least reduced cost."""
    rungs: Count = 16
    """Widths of a ladder, evenly up to the widest operation of its kind that the run has."""
    steps: Count = 300
    """Of training a ladder."""
    column_batch_size: Count = 32
    """Images in a batch."""
    score: ScorePass = ScorePass()
    """How new candidates are scored."""

    def run(self, context: Context) -> PassResult:
        """Find columns, then solve, measure and correct as ``select`` does.

        Raises:
            UnverifiedError: the device is not here; the selections are stored, their latency is estimated.
        """
        notes = list[str]()
        for round_ in range(self.rounds):
            found = self._round(context, round_)
            notes.append(f"round {round_ + 1}: {len(found)} new widths" + (f": {', '.join(found)}" if found else ""))
            if not found:
                break
        result = super().run(context)
        return PassResult(notes=(*notes, *result.notes))

    def _round(self, context: Context, round_: int) -> list[str]:
        """Return the operations that one round has added, as ``block/operation``."""
        table = search_table(context.store, context.teacher)
        limit, _ = settle(context, table, self)
        price = price_of(table, limit)
        ladders = self._ladders(context, table)
        values = [float((loss + price * ms).min()) for loss, ms in zip(table.loss, table.cost["ms"], strict=True)]
        leads = sorted(self._leads(table, ladders, price, values), key=lambda lead: lead.promise)[: self.most]
        found = list[str]()
        with context.progress.task("columns", len(leads)) as task:
            for lead in leads:
                record = self._walked(context, table, lead, price, values[lead.block], f"{self.budget}/{round_}")
                found += [f"{record.block}/{record.operation}"] if record.reduced < _LEAST else []
                task.advance(1, record.operation)
        self.score.run(context)
        return found

    def _ladders(self, context: Context, table: SearchTable) -> dict[int, list[tuple[str, ...]]]:
        """List and time widths of every elastic kind that has a trained candidate; return their names by block."""
        store, specs, found = context.store, dict[str, OpSpec](), dict[int, list[tuple[str, ...]]]()
        known = store.all(OperationRecord)
        for index, name in enumerate(table.blocks):
            block = context.teacher.block(name)
            for widest in _widest(table.operations[index]):
                names = list[str]()
                for spec in self.widths(widest):
                    record = known.get(f"{name}/{spec.name}") or listed(context, block, spec)
                    if record.fits:
                        store.put(f"{name}/{spec.name}", record)
                        specs[spec.name] = spec
                        names.append(spec.name)
                found.setdefault(index, []).append(tuple(names))
        pool = {spec.name: spec for spec in context.pool} | specs
        measure_missing(replace(context, pool=tuple(pool.values())), bisect=True)
        return found

    def widths(self, widest: OpSpec) -> list[OpSpec]:
        """Return the operations of a ladder, the widest one last."""
        width = width_of(widest)
        made = [replace(widest, **{widest.elastic: width * rung / self.rungs}) for rung in range(1, self.rungs)]
        return [*(operation(spec.name) for spec in made), widest]  # as its name says it

    def _leads(
        self,
        table: SearchTable,
        ladders: Mapping[int, Sequence[tuple[str, ...]]],
        price: float,
        values: Sequence[float],
    ) -> list[Lead]:
        leads = []
        for index, several in ladders.items():
            costs = table.loss[index] + price * table.cost["ms"][index]
            kinds = [kind_of(operation(name)) for name in table.operations[index]]
            for names in several:
                kind = kind_of(operation(names[-1]))
                promise = min(cost for cost, other in zip(costs.tolist(), kinds, strict=True) if other == kind)
                leads.append(Lead(index, names, promise - values[index]))
        return leads

    def _walked(
        self, context: Context, table: SearchTable, lead: Lead, price: float, value: float, key: str
    ) -> ColumnRecord:
        """Return what a ladder came to, which is a candidate from now on if it is worth it; walked along only once."""
        store, name = context.store, table.blocks[lead.block]
        key = f"{key}/{name}/{lead.names[-1]}"
        known = store.get(ColumnRecord, key)
        if known is not None:
            return known
        block, worth = context.teacher.block(name), Worth(_exchange(context, table, lead.block), price)
        rows = {record.operation: record.latency_key for record in _of_block(context, name)}
        ms = operation_ms(store)
        names = non_dominated(lead.names, [ms[rows[one]] for one in lead.names])
        elastic = elastic_of(block, names, CandidateWeights(store))
        parts = (*elastic.parts, elastic.name)
        ladder = Ladder(parts, tuple(ms[rows[one]] for one in parts))
        chosen, error, tensors = self.trained(context, block, ladder, worth, elastic)
        reduced = worth.of(error, ms[rows[chosen]]) - value
        new = chosen not in table.operations[lead.block]
        with store.transaction():
            if new and reduced < _LEAST:
                file = f"candidates/{slug(name)}/{slug(chosen)}.safetensors"
                candidate = CandidateRecord(
                    block=name, operation=chosen, state="ready", nmse=error, steps=self.steps, file=file,
                    recipe=f"columns/{key}", digest=store.save_tensors(file, tensors),
                )  # fmt: skip
                store.put(f"{name}/{chosen}", candidate)
            record = ColumnRecord(
                block=name, operation=chosen, price=price, error=error, reduced=reduced if new else 0.0
            )
            store.put(key, record)
        return record

    def trained(
        self, context: Context, block: Block, ladder: Ladder, worth: Worth, elastic: Elastic
    ) -> tuple[str, float, dict[str, torch.Tensor]]:
        """Return the operation that a walk ends in, its error on held-out images, and its weights."""
        graph, parts, device = context.teacher, split(context.dataset, context.seed), context.device
        recipe = resolve(size(parts.fit), context.seed, batch_size=self.column_batch_size)
        with placed(device, graph.module, elastic):
            scale = variances(graph, take(parts.fit, 512), MEASURE_BATCH, device)[block.name]
            widening = Widening(block.name, elastic, ladder, worth, self.steps, context.seed)
            self._train(context, recipe, widening, torch.tensor(scale, device=device))
            chosen = widening.best
            tensors = {name: tensor.cpu() for name, tensor in widening.elastic.cut(chosen).items()}
            spec = operation(chosen)
            module = made_of(block, chosen, tensors).to(device)
            trainer = Trainer(block.name, chosen, module, recipe, spec.derived)
            estimate(graph, [trainer], parts.fit, device)
            error = measure(graph, [trainer], take(parts.held_out, HELD_OUT), MEASURE_BATCH, device)[block.name, chosen]
        weights = {name: tensor.detach().cpu() for name, tensor in trainer.state().items()}
        return chosen, error if math.isfinite(error) else math.inf, weights

    def _train(self, context: Context, recipe: Recipe, widening: Widening, scale: torch.Tensor) -> None:
        """Take the walk's steps inside the teacher's own, epoch after epoch."""
        graph, fit = context.teacher, split(context.dataset, context.seed).fit
        seed = derived_seed(context.seed, "columns") % 2**31

        def observe(block: Block, x: torch.Tensor, y: torch.Tensor) -> None:
            if block.name == widening.block:
                widening.step(x, y, scale)

        graph.module.eval()
        left = self.steps
        with torch.no_grad(), graph.observe(observe):
            for epoch in range(self.steps):
                order = shuffled(size(fit), seed, epoch)
                for images, _ in islice(batches(fit, recipe.batch_size, order, context.device, drop_last=True), left):
                    graph.module(images)
                    left -= 1
                if not left:
                    return


def price_of(table: SearchTable, limit: float) -> float:
    """Return what a millisecond of the table is worth at a limit of its sum (nats): the dual of the program."""
    problem = SelectionProblem(loss=table.loss, cost={"ms": table.cost["ms"]}, limits={"ms": limit})
    return solve_dual(build(problem)).multiplier


def _exchange(context: Context, table: SearchTable, block: int) -> float:
    """Return what a unit of a candidate's error is worth in its score (nats), over the candidates of a block."""
    errors = context.store.all(CandidateRecord)
    names = table.operations[block]
    x = np.array([errors[f"{table.blocks[block]}/{name}"].nmse or 0.0 for name in names])
    square = float(x @ x)
    return max(0.0, float(x @ table.loss[block]) / square) if square > 0 else 0.0


def _of_block(context: Context, block: str) -> list[OperationRecord]:
    return [record for record in context.store.all(OperationRecord).values() if record.block == block and record.fits]


def _widest(names: Sequence[str]) -> list[OpSpec]:
    """Return the widest operation of each elastic kind."""
    kinds: dict[OpSpec, OpSpec] = {}
    for spec in map(operation, names):
        kind = kind_of(spec)
        if kind is not None:
            kinds[kind] = max(spec, kinds.get(kind, spec), key=width_of)
    return list(kinds.values())
