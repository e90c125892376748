"""The unit of work: a few candidates, trained together over a share of the data, on one device.

A unit needs nothing but its job and the states it goes on from, and gives back tensors and numbers: so it runs in this
process or on another machine alike, and whoever gave it out writes the records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...op_library.op_spec import OpSpec
from ...transformer.contracts.data import Sample
from ...transformer.ir.graph import Graph
from ..candidates.build import build_candidate
from ..networks.placement import placed
from .engine import estimate, measure, train
from .recipe import Recipe
from .trainer import Trainer

MEASURE_BATCH = 64

Pair = tuple[str, OpSpec]
"""A block, by name, and an operation for it."""
States = Mapping[str, Mapping[str, Tensor]]
"""What training goes on from, by key (``block/operation``)."""


def key_of(pair: Pair) -> str:
    """Return the key of a pair's records."""
    return f"{pair[0]}/{pair[1].name}"


@dataclass(frozen=True)
class Job:
    """What all units of one pretraining share. Travels as a whole."""

    graph: Graph
    """The teacher."""
    recipe: Recipe
    fit: Dataset[Sample]
    """Images to train on."""
    held_out: Dataset[Sample]
    """Images to measure errors on."""
    scale: dict[str, float]
    """Variance of every block's output."""
    device: torch.device
    seconds: float
    """A unit ends after the step in which these are over."""
    streams: int = 0
    """Of a GPU, for candidates that step side by side; 0 for one after the other."""


@dataclass(frozen=True)
class Unit:
    """Candidates to take from one step of the recipe to another."""

    pairs: tuple[Pair, ...]
    start: int
    """Steps that they have behind them."""
    stop: int
    """Steps after which their errors are measured."""

    def halves(self) -> tuple[Unit, Unit]:
        """Return two units that do the same together."""
        middle = len(self.pairs) // 2
        return Unit(self.pairs[:middle], self.start, self.stop), Unit(self.pairs[middle:], self.start, self.stop)


@dataclass(frozen=True)
class Outcome:
    """How far a unit got with one candidate."""

    step: int
    """Steps of the recipe that are done."""
    steps: int
    """Those of them that this unit took: 0 where there is nothing to train."""
    seconds: float
    """Time that this unit spent on the candidate."""
    failure: str
    error: float | None
    """MSE over variance on held-out images; None before the unit's last step. May be no number."""
    weights: dict[str, Tensor]
    """Of the module, on the CPU."""
    state: dict[str, Tensor]
    """What training can go on from; empty after the recipe's last step."""


@dataclass(frozen=True)
class TooLarge:
    """The memory did not hold a unit."""

    reason: str


Result = dict[str, Outcome] | TooLarge


def run_unit(
    job: Job, unit: Unit, states: States, report: Callable[[int], None] = lambda _: None, workers: int = 0
) -> Result:
    """Train the unit's candidates and measure them where they reach ``unit.stop``; return an outcome by key.

    ``report`` is called again and again with the number of candidates' steps that were done.
    """
    try:
        return _run(job, unit, states, report, workers)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
    if job.device.type == "cuda":
        torch.cuda.empty_cache()
    return TooLarge(reason)


def out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` says that an allocation failed: on a GPU, or in torch's allocator of the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _run(job: Job, unit: Unit, states: States, report: Callable[[int], None], workers: int) -> dict[str, Outcome]:
    recipe, graph = job.recipe, job.graph
    trainers = {key_of(pair): _trainer(job, pair, states.get(key_of(pair))) for pair in unit.pairs}
    trainable = [trainer for trainer in trainers.values() if trainer.trainable]
    step, errors = unit.stop, dict[tuple[str, str], float]()
    with placed(job.device, graph.module):
        if unit.start == 0:
            estimate(graph, [trainer for trainer in trainers.values() if trainer.derived], job.fit, job.device)
        if trainable:
            done = partial(report, len(unit.pairs))
            step = train(
                graph, trainable, recipe, job.fit, job.scale, job.device, done, workers,
                start=unit.start, stop=unit.stop, seconds=job.seconds, streams=job.streams,
            )  # fmt: skip
        else:
            report(len(unit.pairs) * (unit.stop - unit.start))
        if step == unit.stop:
            errors = measure(graph, list(trainers.values()), job.held_out, MEASURE_BATCH, job.device)
    return {
        key: Outcome(
            step=step,
            steps=trainer.steps,
            seconds=trainer.seconds,
            failure=trainer.failure,
            error=errors.get((trainer.block, trainer.operation)),
            weights={name: tensor.detach().cpu() for name, tensor in trainer.state().items()},
            state=trainer.checkpoint() if step < recipe.steps else {},
        )
        for key, trainer in trainers.items()
    }


def _trainer(job: Job, pair: Pair, state: Mapping[str, Tensor] | None) -> Trainer:
    block, spec = job.graph.block(pair[0]), pair[1]
    module = build_candidate(block, spec, job.recipe.seed).to(job.device)
    if spec.derived and job.recipe.derived == "copy":
        module.requires_grad_(False)
    trainer = Trainer(block.name, spec.name, module, job.recipe, spec.derived)
    if state is not None:
        trainer.restore(state)
    return trainer


def unusable(outcome: Outcome) -> str:
    """Return why a candidate must not be selected; empty if it may be."""
    if outcome.failure:
        return outcome.failure
    if outcome.error is not None and not math.isfinite(outcome.error):
        return f"error on held-out images is {outcome.error}"
    for name, tensor in outcome.weights.items():
        if not torch.isfinite(tensor).all():
            return f"tensor {name} is not finite after training"
    return ""
