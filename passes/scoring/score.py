"""Measure how much the loss changes when one candidate alone replaces its block.

HANT section 2.2: the loss of a network near the teacher is taken as the teacher's plus the sum of these changes, on a
small labelled part of the training data (6,000 images in the paper).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.utils.data import Dataset

from ...transformer.contracts.context import Context
from ...transformer.contracts.data import Sample
from ...transformer.contracts.pass_ import Count, Factor, Pass, PassResult, Work
from ...transformer.data.images import batches, size
from ...transformer.data.splits import split, take
from ...transformer.ir.block import Block
from ...transformer.ir.graph import Graph
from ..candidates.records import OperationRecord
from ..latency.table import slower
from ..networks.assemble import CandidateWeights
from ..networks.crew import crew
from ..networks.evaluate import Counts, Metrics, count, evaluate, mean
from ..networks.placement import placed
from ..pretraining.records import CandidateRecord
from .records import ScoreRecord
from .suffix import Suffix, SuffixError


@dataclass(frozen=True)
class ScorePass(Pass):
    """Write the score of every ready candidate; the teacher's own operation has 0. A block is a unit of work."""

    name: ClassVar[str] = "score"
    requires: ClassVar[tuple[str, ...]] = ("candidate",)
    ensures: ClassVar[tuple[str, ...]] = ("score",)

    samples: Count = 6000
    """Held-out training images to score on, at most (HANT section 2.2)."""
    batch_size: Count = 128
    largest_drop: Factor | None = None
    """Candidates that alone lose more accuracy than this, in the metric's unit, are not selected (5 points in HANT
    section 3). None: all are, and their loss decides; small networks need such candidates for small budgets."""

    def work(self, context: Context) -> Work:
        """Count the images of all candidates; on average half of the network runs again for each."""
        fitting = sum(record.fits for record in context.store.all(OperationRecord).values())
        images = min(self.samples, size(split(context.dataset, context.seed).held_out))
        return Work(f"{fitting} candidates x {images} images", macs=0.5 * fitting * images * context.teacher.macs)

    def run(self, context: Context) -> PassResult:
        """Score what is not yet scored, block by block."""
        held_out = take(split(context.dataset, context.seed).held_out, self.samples)
        waiting = self._waiting(context)
        total = sum(map(len, waiting.values()))
        if not total:
            return PassResult(notes=("all candidates are scored", *self._leave_out(context)))
        with placed(context.device, context.teacher.module, context.teacher.network):
            teacher = self._score(context, waiting, held_out)
        scored = f"{total} candidates on {size(held_out)} images"
        accuracy = context.metric.text(teacher.accuracy)
        return PassResult(notes=(f"{scored}; teacher loss {teacher.loss:.4f}, {accuracy}", *self._leave_out(context)))

    def _score(self, context: Context, waiting: dict[str, list[CandidateRecord]], held_out: Dataset[Sample]) -> Metrics:
        """Score block by block; return the teacher's metrics."""
        task = context.dataset.task
        teacher = evaluate(context.teacher.module, held_out, self.batch_size, context.device, task)
        with context.progress.task("score", sum(map(len, waiting.values()))) as bar:
            for block in context.teacher.replaceable:
                records = waiting.get(block.name, [])
                if not records:
                    continue
                weights = CandidateWeights(context.store)
                modules = {r.operation: weights.module(block, r.operation).to(context.device) for r in records}
                found = score_block(context.teacher, block, modules, held_out, self.batch_size, context)
                with context.store.transaction():
                    for record in records:
                        self._keep(context, record, found[record.operation], teacher)
                bar.advance(len(records), block.name)
        return teacher

    def _leave_out(self, context: Context) -> tuple[str, ...]:
        """Mark the candidates that lose more than is allowed, and take the mark from others; return a note of how many.

        The teacher's own operation always stays.
        """
        scores, most = context.store.all(ScoreRecord), self.largest_drop
        own = {score.block: score.accuracy for score in scores.values() if score.operation == "teacher"}
        left_out = 0
        with context.store.transaction():
            for key, score in scores.items():
                drop = context.metric.drop(own.get(score.block, score.accuracy), score.accuracy)
                lost = most is not None and score.operation != "teacher" and drop > most
                left_out += lost
                if lost != score.left_out:
                    context.store.put(key, score.model_copy(update={"left_out": lost}))
        if most is None:
            return ()
        return (f"{left_out} candidates lose more than {context.metric.difference(most)} and are left out",)

    def _waiting(self, context: Context) -> dict[str, list[CandidateRecord]]:
        """Return the ready candidates without a score of this recipe, by block."""
        known, slow = context.store.all(ScoreRecord), slower(context.store)
        waiting: dict[str, list[CandidateRecord]] = {}
        for key, record in context.store.all(CandidateRecord).items():
            score = known.get(key)
            if (
                record.state == "ready"
                and key not in slow
                and (score is None or score.recipe != self._recipe(context, record))
            ):
                waiting.setdefault(record.block, []).append(record)
        return waiting

    def _recipe(self, context: Context, record: CandidateRecord) -> str:
        task = context.dataset.task.name
        text = f"{record.recipe}/{context.seed}/{self.samples}/{self.batch_size}{task and f'/{task}'}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _keep(self, context: Context, record: CandidateRecord, found: Metrics, teacher: Metrics) -> None:
        """Store the score; a candidate whose loss is no number is failed and will never be selected."""
        key = f"{record.block}/{record.operation}"
        if not math.isfinite(found.loss):
            reason = f"loss of the network with it is {found.loss}"
            context.store.put(key, record.model_copy(update={"state": "failed", "reason": reason}))
            return
        score = ScoreRecord(
            block=record.block,
            operation=record.operation,
            delta=0.0 if record.operation == "teacher" else found.loss - teacher.loss,
            accuracy=found.accuracy,
            samples=found.samples,
            recipe=self._recipe(context, record),
        )
        context.store.put(key, score)


def score_block(
    graph: Graph,
    block: Block,
    candidates: dict[str, nn.Module],
    dataset: Dataset[Sample],
    batch_size: int,
    context: Context,
) -> dict[str, Metrics]:
    """Return the network's metrics with each candidate alone in the place of ``block``.

    Runs what comes before the block once for all of them; where the graph does not allow that, the whole network.
    """
    graph.module.eval()
    found: dict[str, list[Counts]] = {name: [] for name in candidates}
    task = context.dataset.task

    def job(suffix: Suffix, name: str, images: Tensor, targets: Any) -> None:
        found[name].append(count(task, suffix.run(candidates[name]), images, targets))

    try:
        with crew(0, context.device) as hands:
            for images, targets in batches(dataset, batch_size, device=context.device):
                suffix = Suffix(graph, block, [images])
                hands.run(partial(job, suffix, name, images, targets) for name in candidates)
    except SuffixError:
        return {
            name: evaluate(graph.replace({block.name: candidate}).network, dataset, batch_size, context.device, task)
            for name, candidate in candidates.items()
        }
    return {name: mean(counts) for name, counts in found.items()}
