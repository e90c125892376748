"""Train every candidate to imitate its block of the teacher.

HANT section 2.1, equation 2: the minimisation falls apart into one small problem per block and operation, so all are
trained on one forward pass of the teacher, each with its own optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import ClassVar

import torch

from ..op_library.op_spec import OpSpec
from ..transformer.contracts.candidate import build_candidate
from ..transformer.contracts.context import Context
from ..transformer.contracts.data import Split, split, take
from ..transformer.contracts.data_images import size
from ..transformer.contracts.pass_ import Pass, PassResult
from ..transformer.contracts.progress import Task
from ..transformer.contracts.records import CandidateRecord, OperationRecord
from ..transformer.contracts.store import slug
from ..transformer.ir.block import Block
from .placement import placed
from .pretraining.engine import measure, train, variances
from .pretraining.recipe import Recipe, resolve
from .pretraining.trainer import Trainer

HELD_OUT = 1000
"""Images that a candidate's error is measured on, at most."""
_SCALE_SAMPLES = 512
"""Images that the variance of a block's output is taken from, at most."""
_MEASURE_BATCH = 64

Pair = tuple[Block, OpSpec]


@dataclass(frozen=True)
class PretrainPass(Pass):
    """Write a ready or failed candidate for every (block, operation) that fits and may be selected.

    Weights depend on the options, the seed, the teacher and the data only: neither ``in_flight``, ``workers`` nor the
    order of work changes them. Candidates that are finished with the same recipe are kept.
    """

    name: ClassVar[str] = "pretrain"
    requires: ClassVar[tuple[str, ...]] = ("operation", "latency")
    ensures: ClassVar[tuple[str, ...]] = ("candidate",)

    preset: str = "auto"
    """Where the options below come from if they are not given: ``auto``, ``paper-b2``, ``paper-b4``, ``paper-b6``."""
    epochs: float | None = None
    """Passes over the training data; by default one as in the paper, or as many as a small data set needs."""
    batch_size: int | None = None
    learning_rate: float | None = None
    momentum: float = 0.9
    in_flight: int = 8
    """Operations that are trained together, on all blocks; each group is kept when it is finished."""
    workers: int = 0
    """Threads that train candidates at the same time on a CPU; 0 for as many as torch uses."""

    blocks: tuple[str, ...] = ()
    """Patterns such as ``layer1.*`` of the blocks to train for, so that people can share the work; all by default."""

    def run(self, context: Context) -> PassResult:
        """Train what is not yet in the store."""
        parts = split(context.dataset, context.seed)
        recipe = resolve(
            size(parts.fit),
            context.seed,
            self.preset,
            self.epochs,
            self.batch_size,
            self.learning_rate,
            self.momentum,
        )
        with placed(context.device, context.teacher.module):
            self._run(context, recipe, parts)
        records = context.store.all(CandidateRecord).values()
        failed = sum(record.state == "failed" for record in records)
        trained = sum(record.steps > 0 for record in records)
        note = f"{trained} candidates trained, {recipe.steps} steps of {recipe.batch_size} images"
        return PassResult(notes=(note + (f"; {failed} failed" if failed else ""),))

    def _run(self, context: Context, recipe: Recipe, parts: Split) -> None:
        pairs = [pair for pair in missing(context, recipe.fingerprint) if self._takes(pair[0])]
        groups = list(_groups(pairs, self.in_flight))
        scale: dict[str, float] = {}
        if groups:
            scale = variances(context.teacher, take(parts.fit, _SCALE_SAMPLES), recipe.batch_size, context.device)
        with context.progress.task("pretrain", sum(map(len, groups)) * recipe.steps) as task:
            for group in groups:
                self._train_or_split(Work(context, recipe, parts, scale, task), group)

    def _takes(self, block: Block) -> bool:
        return not self.blocks or any(fnmatchcase(block.name, pattern) for pattern in self.blocks)

    def _train_or_split(self, work: Work, group: list[Pair]) -> None:
        """Train a group; where the memory does not hold it, one half after the other. Results are the same."""
        try:
            self._train(work, group)
        except torch.OutOfMemoryError as error:
            work.context.progress.log(f"pretrain: out of memory with {len(group)} candidates in flight; halving")
            if len(group) == 1:
                _keep_failed(work, group[0], f"out of memory in training it alone: {str(error).splitlines()[0]}")
                return
        else:
            return
        if work.context.device.type == "cuda":
            torch.cuda.empty_cache()
        middle = len(group) // 2
        self._train_or_split(work, group[:middle])
        self._train_or_split(work, group[middle:])

    def _train(self, work: Work, group: list[Pair]) -> None:
        """Train a group and keep each of its candidates."""
        context, recipe, parts = work.context, work.recipe, work.parts
        trainers = [
            Trainer(block.name, spec.name, build_candidate(block, spec, context.seed).to(context.device), recipe)
            for block, spec in group
            if spec.name != "teacher"
        ]
        trainable = [trainer for trainer in trainers if trainer.trainable]
        names = ", ".join(dict.fromkeys(trainer.operation for trainer in trainable))
        report = partial(work.task.advance, len(group), names)
        if trainable:
            train(context.teacher, trainable, recipe, parts.fit, work.scale, context.device, report, self.workers)
        else:
            work.task.advance(len(group) * recipe.steps)
        errors = measure(context.teacher, trainers, take(parts.held_out, HELD_OUT), _MEASURE_BATCH, context.device)
        for block, spec in group:
            if spec.name == "teacher":
                _keep_teacher(context, block, recipe.fingerprint)
        for trainer in trainers:
            _keep(context, trainer, errors[trainer.block, trainer.operation], recipe.fingerprint)


@dataclass(frozen=True)
class Work:
    """What every group needs."""

    context: Context
    recipe: Recipe
    parts: Split
    scale: dict[str, float]
    """Variance of every block's output."""
    task: Task


def missing(context: Context, recipe: str) -> list[Pair]:
    """Return the (block, operation) pairs to train: they fit, are not dropped, and not finished with this recipe."""
    fits = {key for key, record in context.store.all(OperationRecord).items() if record.fits}
    known = context.store.all(CandidateRecord)
    found: list[Pair] = []
    for block in context.teacher.replaceable:
        for spec in context.pool:
            key = f"{block.name}/{spec.name}"
            record = known.get(key)
            finished = record is not None and (record.state == "dropped" or record.recipe == recipe)
            if key in fits and not finished:
                found.append((block, spec))
    return found


def _groups(pairs: Sequence[Pair], in_flight: int) -> Iterator[list[Pair]]:
    """Yield the pairs of ``in_flight`` operations at a time."""
    operations = list(dict.fromkeys(spec.name for _, spec in pairs))
    for start in range(0, len(operations), max(1, in_flight)):
        chosen = set(operations[start : start + max(1, in_flight)])
        yield [(block, spec) for block, spec in pairs if spec.name in chosen]


def _keep_teacher(context: Context, block: Block, recipe: str) -> None:
    record = CandidateRecord(block=block.name, operation="teacher", state="ready", nmse=0.0, recipe=recipe)
    context.store.put(f"{block.name}/teacher", record)


def _keep_failed(work: Work, pair: Pair, reason: str) -> None:
    block, operation = pair[0].name, pair[1].name
    record = CandidateRecord(
        block=block, operation=operation, state="failed", reason=reason, recipe=work.recipe.fingerprint
    )
    work.context.store.put(f"{block}/{operation}", record)


def _keep(context: Context, trainer: Trainer, error: float, recipe: str) -> None:
    """Write the candidate's weights, then its record: a record means that the weights are there."""
    key = f"{trainer.block}/{trainer.operation}"
    failure = trainer.failure or _unusable(trainer, error)
    file = ""
    if not failure and trainer.trainable:
        file = f"candidates/{slug(trainer.block)}/{slug(trainer.operation)}.safetensors"
        context.store.save_tensors(file, trainer.state())
    record = CandidateRecord(
        block=trainer.block,
        operation=trainer.operation,
        state="failed" if failure else "ready",
        reason=failure,
        nmse=error if math.isfinite(error) else None,
        steps=trainer.steps,
        seconds=trainer.seconds,
        file=file,
        recipe=recipe,
    )
    context.store.put(key, record)


def _unusable(trainer: Trainer, error: float) -> str:
    if not math.isfinite(error):
        return f"error on held-out images is {error}"
    for name, tensor in trainer.state().items():
        if not torch.isfinite(tensor).all():
            return f"tensor {name} is not finite after training"
    return ""
