"""Train every candidate to imitate its block of the teacher.

HANT section 2.1, equation 2: the minimisation falls apart into one small problem per block and operation, so all are
trained on one forward pass of the teacher, each with its own optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import (
    Amount,
    Count,
    Decay,
    Factor,
    Pass,
    PassResult,
    Positive,
    Work,
    one_of,
    setting,
)
from ...transformer.contracts.progress import Task
from ...transformer.contracts.store import Store
from ...transformer.data.images import size
from ...transformer.data.splits import Split, split, take
from ...transformer.errors import UsageError
from ...transformer.tools.wildcards import matches
from ..candidates.records import OperationRecord
from ..latency.table import operation_ms, slower
from ..networks.placement import placed
from ..selecting.weightings import stages
from .driver import Driver, open_executor
from .engine import variances
from .executor import EXECUTORS
from .halving import ahead, stops, used
from .memory import Bound
from .recipe import DERIVED, PRECISIONS, PRESETS, Recipe, resolve
from .records import CandidateRecord
from .regress import predicted, spread
from .tally import Tally
from .unit import Job, Pair, key_of
from .units import Cut

HELD_OUT = 1000
"""Images that a candidate's error is measured on, at most."""
_SCALE_SAMPLES = 512
"""Images that the variance of a block's output is taken from, at most."""


@dataclass(frozen=True)
class PretrainPass(Pass):
    """Write a ready or failed candidate for every (block, operation) that fits and may be selected.

    Weights depend on the recipe, the seed, the teacher and the data only: not on where, in which order, together with
    what or in how many goes candidates are trained. Those that are finished with the same recipe are kept.
    """

    name: ClassVar[str] = "pretrain"
    requires: ClassVar[tuple[str, ...]] = ("operation", "latency")
    ensures: ClassVar[tuple[str, ...]] = ("candidate",)

    preset: Annotated[str, one_of(PRESETS)] = "auto"
    """Where the options below come from if they are not given: ``auto``, ``paper-b2``, ``paper-b4``, ``paper-b6``."""
    epochs: Positive | None = None
    """Passes over the training data; by default one as in the paper, or as many as a small data set needs."""
    batch_size: Annotated[int, Field(ge=2)] | None = None
    learning_rate: Positive | None = None
    momentum: Decay = 0.9
    mixed_precision: Annotated[str, one_of(PRECISIONS)] = Recipe.mixed_precision
    """``bf16`` for matrix products in half precision, where the processor is faster with it; ``no`` for single."""
    derived: Annotated[str, one_of(DERIVED)] = Recipe.derived
    """``train`` what is made of the block's own module, such as slices, as everything else; or ``copy``: it keeps the
    block's weights, only its batch norms are estimated, which takes seconds."""
    halving: Amount = 0
    """Rungs after 1/2, 1/4, ... of the steps at which candidates are stopped that no selection near the best uses."""
    sample: Amount = 0
    """Of each family with more members train so many on each block, and predict the errors of the others; those that
    selections near the best would use are trained too, until none of these is a prediction. 0 trains all."""
    in_flight: Count = setting(8, decides=False)
    """Operations that are trained together, on all blocks; each group is kept when it is finished."""
    memory: Amount = setting(0, decides=False)
    """Bound in MiB on what the candidates of a group take together; 0 for none."""
    save_seconds: Factor = setting(180.0, decides=False)
    """Time after which a group in training is made durable and goes on from there."""
    executor: Annotated[str, one_of(EXECUTORS)] = setting("local", decides=False)
    """``local``, or ``ray``: the cluster that RAY_ADDRESS names, or Ray on this machine."""
    workers: Amount = setting(0, decides=False)
    """Threads that train candidates on a CPU, or units at a time on Ray; 0 for as many as there is room for."""
    streams: Amount = setting(0, decides=False)
    """Of a GPU, on which candidates of a block step side by side, whole steps recorded as CUDA graphs, where the first
    steps are faster so; 0 for one after the other."""
    blocks: tuple[str, ...] = ()
    """Patterns such as ``layer1.*`` of the blocks to train for, so that people can share the work; all by default."""

    def check(self, context: Context) -> None:
        """Refuse what does not go with the number of images, and two ways of training less."""
        if self.sample and self.halving:
            raise UsageError("pretrain.sample and pretrain.halving are two ways of training less; give one of them")
        if context.data is not None:
            self.recipe(context, size(split(context.data, context.seed).fit))

    def lost(self, context: Context) -> str:
        """Return which candidates' weights are missing; what is damaged is noticed when it is read."""
        gone = _gone(context.store)
        more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
        return f"the weights of candidate {gone[0]}{more} are missing" if gone else ""

    def recipe(self, context: Context, samples: int) -> Recipe:
        """Return how candidates are trained on ``samples`` images."""
        return resolve(
            samples,
            context.seed,
            self.preset,
            self.epochs,
            self.batch_size,
            self.learning_rate,
            self.momentum,
            self.mixed_precision,
            self.derived,
        )

    def work(self, context: Context) -> Work:
        """Count every operation that fits: which ones are slower than the block is not measured yet."""
        recipe = self.recipe(context, size(split(context.dataset, context.seed).fit))
        kept = {spec.name for spec in context.pool if spec.weightless or (spec.derived and self.derived == "copy")}
        fitting = [r for r in context.store.all(OperationRecord).values() if r.fits and r.operation not in kept]
        images = recipe.steps * recipe.batch_size
        groups = -(-len({record.operation for record in fitting}) // self.in_flight)
        return Work(
            f"{len(fitting)} candidates at most x {recipe.steps} steps of {recipe.batch_size} images",
            macs=images * (3 * sum(record.macs for record in fitting) + groups * context.teacher.macs),
            bytes=4 * sum(record.parameters for record in fitting),
        )

    def run(self, context: Context) -> PassResult:
        """Train what is not yet in the store."""
        parts = split(context.dataset, context.seed)
        recipe = self.recipe(context, size(parts.fit))
        self._run(context, recipe, parts)
        records = context.store.all(CandidateRecord).values()
        failed = sum(record.state == "failed" for record in records)
        trained = sum(record.state == "ready" and record.steps > 0 for record in records)
        stopped = sum(record.state == "dropped" and record.steps > 0 for record in records)
        guessed = sum(record.estimated for record in records)
        note = f"{trained} candidates trained, {recipe.steps} steps of {recipe.batch_size} images"
        note += f"; {stopped} stopped on the way" if stopped else ""
        note += f"; the errors of {guessed} others are predicted" if guessed else ""
        return PassResult(notes=(note + (f"; {failed} failed" if failed else ""),))

    def _run(self, context: Context, recipe: Recipe, parts: Split) -> None:
        recipes = _recipes(context, recipe)
        idle = self.halving > 0 or self.sample > 0
        pairs = [pair for pair in missing(context, recipes, idle) if self._takes(pair[0])]
        for block, spec in pairs:
            if spec.name == "teacher":
                _keep_teacher(context, block, recipe.fingerprint)
        pairs = [pair for pair in pairs if pair[1].name != "teacher"]
        with context.progress.task("pretrain", len(pairs) * recipe.steps) as task:
            if pairs:
                job = _job(context, recipe, parts, self.save_seconds, self.streams)
                if self.sample:
                    self._train_some(context, job, recipes, pairs, task)
                else:
                    self._train(context, job, recipes, pairs, task)

    def _train(self, context: Context, job: Job, recipes: Mapping[str, str], pairs: list[Pair], task: Task) -> None:
        """Take the pairs from rung to rung."""
        tally = Tally(context.progress, task, pairs, job.recipe.steps)
        latency = _latencies(context)
        graph = context.teacher
        stage = dict(zip((block.name for block in graph.replaceable), stages(graph), strict=True))
        with open_executor(self.executor, job, self.workers, tally.report) as executor:
            cut = Cut(self.in_flight, executor.slots, self._bound(context, job.recipe.batch_size))
            driver = Driver(context.store, job.recipe, recipes, executor, cut, tally, context.progress)
            driver.take_up(pairs)
            rungs = stops(job.recipe.steps, self.halving)
            first = ahead(self._every(context), stage) if len(rungs) > 1 else []
            first = [pair for pair in pairs if pair in first]
            for stop in rungs:
                first = driver.advance(first, stop)
            for stop in rungs:
                pairs = driver.advance(pairs, stop)
                if stop < job.recipe.steps:
                    pairs = driver.thin(pairs, stop, latency, stage)

    def _train_some(
        self, context: Context, job: Job, recipes: Mapping[str, str], pairs: list[Pair], task: Task
    ) -> None:
        """Train a sample of each family and what selections near the best would use; predict the others' errors.

        What is trained follows from what is durable alone, so a run that was stopped goes the same way again.
        """
        store, latency = context.store, _latencies(context)
        every = self._every(context)
        stage = dict(zip((b.name for b in context.teacher.replaceable), stages(context.teacher), strict=True))
        waiting = {key_of(pair): pair for pair in pairs}
        some = [pair for pair in spread(every, self.sample) if key_of(pair) in waiting]
        while True:
            if some:
                self._train(context, job, recipes, some, task)
                waiting = {key: pair for key, pair in waiting.items() if pair not in some}
            records = store.all(CandidateRecord)
            errors = {key: r.nmse for key, r in records.items() if r.nmse is not None and not r.estimated}
            guessed = predicted(errors, every)
            rivals = {key: (latency[key], error) for key, error in (guessed | errors).items() if key in latency}
            kept = used(rivals, latency, stage)
            some = [pair for key, pair in waiting.items() if key in kept or key not in guessed]
            if not some:
                break
        with store.transaction():
            for key, (block, spec) in waiting.items():
                reason = f"predicted error {guessed[key]:.4g}: no selection near the best uses it"
                store.put(
                    key,
                    CandidateRecord(
                        block=block,
                        operation=spec.name,
                        state="dropped",
                        reason=reason,
                        nmse=guessed[key],
                        recipe=recipes[key],
                        estimated=True,
                    ),
                )

    def _every(self, context: Context) -> list[Pair]:
        """Return what there is to train, finished or not."""
        return [pair for pair in missing(context, {}) if self._takes(pair[0]) and pair[1].name != "teacher"]

    def _takes(self, block: str) -> bool:
        return not self.blocks or any(matches(block, pattern) for pattern in self.blocks)

    def _bound(self, context: Context, batch_size: int) -> Bound | None:
        """Return what cuts a group so that the memory holds each part; None where there is no limit."""
        if not self.memory:
            return None
        threads = self.workers or torch.get_num_threads()
        at_a_time = threads if self.executor == "local" and context.device.type == "cpu" else 1
        return Bound(context.teacher, batch_size, self.memory * 2**20, at_a_time)


def _recipes(context: Context, recipe: Recipe) -> dict[str, str]:
    """Return the hash of how each candidate comes about, by key."""
    pairs = [(block, spec) for block in context.teacher.replaceable for spec in context.pool]
    return {key_of((block.name, spec)): recipe.of(block, spec) for block, spec in pairs}


def missing(context: Context, recipes: Mapping[str, str], halving: bool = False) -> list[Pair]:
    """Return the (block, operation) pairs to train: they fit, are not dropped, and not finished with their recipe.

    Those that were stopped on the way count as finished where ``halving`` is in use.
    """
    fits = {key for key, record in context.store.all(OperationRecord).items() if record.fits}
    known = context.store.all(CandidateRecord)
    gone = set(_gone(context.store))
    slow = slower(context.store)
    pairs = [(block.name, spec) for block in context.teacher.replaceable for spec in context.pool]
    pairs = [pair for pair in pairs if key_of(pair) in fits and key_of(pair) not in slow]
    return [
        p for p in pairs if key_of(p) in gone or not _finished(known.get(key_of(p)), recipes.get(key_of(p)), halving)
    ]


def _gone(store: Store) -> list[str]:
    """Return the keys of the trained candidates whose weights are missing."""
    records = store.all(CandidateRecord).items()
    return [key for key, record in records if record.file and not store.path(record.file).is_file()]


def _finished(record: CandidateRecord | None, recipe: str | None, halving: bool) -> bool:
    if record is None:
        return False
    return record.recipe == recipe and (halving or record.state != "dropped")


def _job(context: Context, recipe: Recipe, parts: Split, save_seconds: float, streams: int) -> Job:
    """Return what all units share."""
    graph, device = context.teacher, context.device
    with placed(device, graph.module):
        scale = variances(graph, take(parts.fit, _SCALE_SAMPLES), recipe.batch_size, device)
    return Job(graph, recipe, parts.fit, take(parts.held_out, HELD_OUT), scale, device, save_seconds, streams)


def _latencies(context: Context) -> dict[str, float]:
    """Return the milliseconds of every candidate that is in the lookup table, by key."""
    rows = operation_ms(context.store)
    listed = context.store.all(OperationRecord)
    return {key: rows[o.latency_key] for key, o in listed.items() if o.latency_key in rows}


def _keep_teacher(context: Context, block: str, recipe: str) -> None:
    record = CandidateRecord(block=block, operation="teacher", state="ready", nmse=0.0, recipe=recipe)
    context.store.put(f"{block}/teacher", record)
