"""Evaluate networks of candidates batch by batch, each batch durable, candidates and teacher read once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...transformer.contracts.context import Context
from ...transformer.contracts.progress import Task
from ...transformer.contracts.task import Classification
from ...transformer.data.images import batches, shuffled, size
from ...transformer.data.splits import split, take
from ...transformer.tools.nested import leaves
from ..networks.assemble import CandidateWeights
from ..networks.supernet import Statistics, Supernet, statistics_of
from .measures import Totals, measure
from .recalibrate import BATCHES, batch_norm_statistics
from .records import EvaluationRecord

_KEPT_BYTES = 1 << 30
"""Images and teacher's outputs that are kept in memory at most; what is beyond is made again when needed."""


@dataclass(frozen=True)
class Protocol:
    """How networks are evaluated; together with the candidates it decides every bit of the result."""

    samples: int = 6000
    """Held-out training images, at most (HANT section 2.2)."""
    batch_size: int = 256
    recalibrate: bool = False
    """Whether batch-norm statistics are estimated again on training images, for every network."""
    statistics: Statistics = "running"
    """What the networks' batch norms normalise by; those of the teacher, whom they are compared with, use their own."""


class Batch(NamedTuple):
    """Held-out images with what the teacher makes of them."""

    images: Tensor
    targets: Any
    outputs: Any
    features: Tensor

    @property
    def bytes(self) -> int:
        """Memory of the tensors."""
        tensors = [leaf for leaf in leaves(tuple(self)) if isinstance(leaf, Tensor)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Judge:
    """Evaluates networks on the same images in the same order."""

    def __init__(self, context: Context, protocol: Protocol, weights: CandidateWeights | None = None) -> None:
        """Judge networks of a run's candidates, or of other ``weights``."""
        self.context = context
        self.task = context.dataset.task
        self.protocol = protocol
        self._parts = split(context.dataset, context.seed)
        self._held_out = take(self._parts.held_out, protocol.samples)
        self.total = size(self._held_out)
        # the statistics of a batch are those of its classes: data may come class by class
        whole = protocol.statistics == "running"
        self._order = torch.arange(self.total) if whole else shuffled(self.total, context.seed, 0)
        weights = weights or CandidateWeights(context.store)
        self.supernet = Supernet(context, weights)
        self._recipes = weights.recipes
        self._kept: dict[int, Batch] = {}
        self._room = _KEPT_BYTES

    def entry(self, index: int, choice: Mapping[str, str], measure: str, doubt: float | None = None) -> Entry:
        """Return the network of ``choice`` (block -> operation), as far as the run has evaluated it.

        ``doubt`` is about the spread of single images, which only classification has: else the race is certain.
        """
        return Entry(self, index, dict(choice), measure, doubt if isinstance(self.task, Classification) else None)

    def totals(self, choice: Mapping[str, str]) -> Totals:
        """Return the network's totals over all images."""
        entry = self.entry(0, choice, "loss")
        entry.finish()
        return entry.totals

    def key(self, choice: Mapping[str, str]) -> str:
        """Return the record key: changes with the protocol, the seed, and how the candidates were trained."""
        parts = [f"{b}/{op}@{self._recipes.get(f'{b}/{op}', '')}" for b, op in sorted(choice.items())]
        p = self.protocol
        name = [self.task.name] if self.task.name else []
        mode = [] if p.statistics == "running" else [p.statistics]
        text = json.dumps([self.context.seed, self.total, p.batch_size, p.recalibrate, parts, *name, *mode])
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def statistics(self, choice: Mapping[str, str]) -> dict[str, Tensor]:
        """Return the buffers to run the network with in place of its own; empty without recalibration."""
        if not self.protocol.recalibrate:
            return {}
        return batch_norm_statistics(self.supernet.choose(choice), self._training_images())

    def run(self, choice: Mapping[str, str], buffers: dict[str, Tensor], start: int) -> dict[str, Tensor]:
        """Return the measures of the batch that begins at image ``start``."""
        batch = self.batch(start)
        network = self.supernet.choose(choice)
        with statistics_of(network, self.protocol.statistics):
            outputs, features = self._forward(network, buffers, batch.images)
        taught = batch.outputs, batch.features
        return measure(self.task, outputs, batch.images, batch.targets, features, taught)

    def part(self, first: int, last: int) -> Tensor:
        """Return the indices of the held-out images that are evaluated as number ``first`` to ``last - 1``."""
        return self._order[first:last]

    def sample(self, indices: Tensor) -> tuple[Tensor, Any]:
        """Return held-out images (N, C, H, W) and their targets at ``indices``."""
        return next(batches(self._held_out, len(indices), indices, self.context.device))

    def batch(self, start: int) -> Batch:
        """Return the held-out images from ``start`` on, with the teacher's outputs."""
        if start in self._kept:
            return self._kept[start]
        order = self._order[start : self.end(start)]
        images, targets = next(batches(self._held_out, len(order), order, self.context.device))
        batch = Batch(images, targets, *self._forward(self.supernet.choose({}), {}, images))
        if batch.bytes <= self._room:
            self._room -= batch.bytes
            self._kept[start] = batch
        return batch

    def end(self, start: int) -> int:
        """Return where the batch ends that begins at ``start``.

        Statistics of a few images say nothing: with those of the batch, a small rest belongs to the last whole one.
        """
        size = self.protocol.batch_size
        rest = self.total - start - size
        return self.total if rest <= 0 or (self.protocol.statistics == "batch" and rest < size / 2) else start + size

    def _training_images(self) -> Iterator[Tensor]:
        size = self.protocol.batch_size
        part = take(self._parts.fit, size * BATCHES)
        return (images for images, _ in batches(part, size, device=self.context.device))

    def _forward(self, network: nn.Module, buffers: dict[str, Tensor], images: Tensor) -> tuple[Any, Tensor]:
        """Return the outputs and what leaves the last replaceable block."""
        seen: list[Tensor] = []
        hook = network.get_submodule(self.supernet.last).register_forward_hook(lambda *call: seen.append(call[2]))
        try:
            with torch.no_grad():
                outputs = functional_call(network, buffers, (images,)) if buffers else network(images)
        finally:
            hook.remove()
        return outputs, seen[-1]


class Entry:
    """A network under evaluation: goes on from where the run has it, one durable batch a step."""

    def __init__(self, judge: Judge, index: int, choice: dict[str, str], measure: str, doubt: float | None) -> None:
        self._judge, self._measure, self._doubt = judge, measure, doubt
        self._floor = judge.task.least_loss if measure == "loss" else 0.0
        self.index, self.choice = index, choice
        self._key = judge.key(choice)
        record = judge.context.store.get(EvaluationRecord, self._key)
        self.totals = Totals() if record is None else Totals(record.samples, record.sums, record.squares)
        self.seconds = 0.0 if record is None else record.seconds
        """CPU time spent on it, in this process and before."""
        self._buffers: dict[str, Tensor] | None = None
        self._task = Task()

    def watch(self, task: Task) -> None:
        """Report every batch to ``task``."""
        self._task = task

    @property
    def complete(self) -> bool:
        """Whether all images are through."""
        return self.totals.samples >= self._judge.total

    @property
    def bound(self) -> float:
        """What the measure's sum over all images will be at least."""
        return self.totals.least(self._measure, self._judge.total, self._doubt, self._floor)

    def finish(self) -> None:
        """Evaluate all batches that are left."""
        while not self.complete:
            self.advance()

    def advance(self) -> None:
        """Evaluate the next batch."""
        started = time.process_time()
        if self._buffers is None:
            self._buffers = self._judge.statistics(self.choice)
        self.totals.add(self._judge.run(self.choice, self._buffers, self.totals.samples))
        self.seconds += time.process_time() - started
        record = EvaluationRecord(
            choice=self.choice,
            samples=self.totals.samples,
            complete=self.complete,
            sums=self.totals.sums,
            squares=self.totals.squares,
            seconds=self.seconds,
        )
        self._judge.context.store.put(self._key, record)
        self._task.advance(1)
