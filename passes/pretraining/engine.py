"""One forward pass of the teacher feeds every block and every candidate in flight (HANT section 2.1)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...transformer.contracts.data import Sample
from ...transformer.data.images import batches, shuffled, size
from ...transformer.data.splits import take
from ...transformer.ir.block import Block
from ...transformer.ir.graph import Graph
from ...transformer.tools.modes import evaluating
from ...transformer.tools.seeds import derived_seed
from ..networks.crew import Crew, Streams, crew
from .recipe import Recipe
from .recorded import Fastest, Recorded, Step
from .trainer import Trainer, half

_STATISTICS_BATCH, _STATISTICS_BATCHES = 256, 8
"""Images that batch norms are estimated on; once-for-all networks take 2,000."""


@dataclass
class Moments:
    """Count, sum of squared deviations and mean of the elements of many tensors."""

    count: int = 0
    mean: float = 0.0
    deviation: float = 0.0

    def add(self, tensor: Tensor) -> None:
        """Add all elements (Chan's parallel update, in double precision)."""
        variance, mean = torch.var_mean(tensor.detach().float(), correction=0)
        count, delta = tensor.numel(), mean.item() - self.mean
        total = self.count + count
        self.deviation += variance.item() * count + delta * delta * self.count * count / total
        self.mean += delta * count / total
        self.count = total

    @property
    def variance(self) -> float:
        """Of all elements; 1 where they are all equal, so that it can divide."""
        return self.deviation / self.count if self.count and self.deviation > 0 else 1.0


def variances(graph: Graph, dataset: Dataset[Sample], batch_size: int, device: torch.device) -> dict[str, float]:
    """Return the variance of every block's output over all elements, by block."""
    moments: dict[str, Moments] = {block.name: Moments() for block in graph.blocks}

    def observe(block: Block, _: Tensor, y: Tensor) -> None:
        moments[block.name].add(y)

    _run(graph, observe, (images for images, _ in batches(dataset, batch_size, device=device)))
    return {name: found.variance for name, found in moments.items()}


def train(
    graph: Graph,
    trainers: Sequence[Trainer],
    recipe: Recipe,
    dataset: Dataset[Sample],
    scale: dict[str, float],
    device: torch.device,
    done: Callable[[], None] = lambda: None,
    workers: int = 0,
    start: int = 0,
    stop: int | None = None,
    seconds: float = math.inf,
    streams: int = 0,
) -> int:
    """Train the candidates together; ``scale`` holds the variance of every block's output.

    Takes the recipe's steps from ``start`` up to ``stop`` (the last by default), or ends after the step in which
    ``seconds`` are over. Returns the number of the recipe's steps that are done.

    A candidate's weights do not depend on which others are in flight: it starts from its own seed, and the order
    of the images comes from the recipe alone. Trains inside the teacher's forward pass, so features are neither
    copied nor kept. ``done`` is called after each step. ``workers`` threads train at the same time; 0 for as many
    as torch uses. On a GPU with ``streams``, candidates of a block step side by side on that many, and whole steps are
    recorded, where the first steps are faster so (``recorded.py``).
    """
    waiting = _by_block(trainers)
    tensors = {name: torch.tensor(value, device=device) for name, value in scale.items()}
    for trainer in trainers:
        trainer.begin()
    began, step = time.monotonic(), start
    # Of one address, so that a recorded step reads the rate of the day; on a CPU as exact as Python's.
    rate = torch.zeros((), device=device, dtype=torch.float64 if device.type == "cpu" else torch.float32)

    def learn(hands: Crew, images: Tensor) -> None:
        length = rate.item() if device.type == "cpu" else rate

        def observe(block: Block, x: Tensor, y: Tensor) -> None:
            hands.run(partial(t.step, x, y, tensors[block.name], length) for t in waiting.get(block.name, ()))

        with graph.observe(observe):
            graph.module(images)

    with crew(workers, device) as hands, torch.no_grad(), half(recipe, device):
        take: Step = partial(learn, hands)
        if streams and device.type == "cuda":
            beside = partial(learn, Streams(device, streams))
            take = Fastest((take, beside, Recorded(beside)), partial(torch.cuda.synchronize, device))
        steps = range(start, recipe.steps if stop is None else stop)
        graph.module.eval()
        for index, images in _stream(graph, dataset, recipe, device, steps):
            rate.fill_(recipe.rate(index))
            take(images)
            for trainer in trainers:
                trainer.count(index)
            for group in waiting.values():
                group.sort(key=lambda trainer: -trainer.seconds)  # the longest first, so that nobody waits for it
            done()
            step = index + 1
            if time.monotonic() - began >= seconds:
                break
    if device.type == "cuda":  # what one candidate takes there cannot be told from outside
        torch.cuda.synchronize(device)
        for trainer in trainers:
            trainer.seconds = (time.monotonic() - began) / len(trainers)
    return step


def estimate(graph: Graph, trainers: Sequence[Trainer], dataset: Dataset[Sample], device: torch.device) -> None:
    """Set the statistics of the candidates' batch norms to those on the teacher's features.

    Taken over the first images of ``dataset``, as ranking does (``recalibrate``): each batch weighs the same.
    """
    waiting = _by_block([trainer for trainer in trainers if trainer.norms])
    if not waiting:
        return
    momenta = [(layer, layer.momentum) for group in waiting.values() for trainer in group for layer in trainer.norms]
    for layer, _ in momenta:
        layer.reset_running_stats()
        layer.momentum = None
    for group in waiting.values():
        for trainer in group:
            trainer.begin()

    def observe(block: Block, x: Tensor, _: Tensor) -> None:
        for trainer in waiting.get(block.name, ()):
            trainer.module(x)

    part = take(dataset, _STATISTICS_BATCH * _STATISTICS_BATCHES)
    _run(graph, observe, (images for images, _ in batches(part, _STATISTICS_BATCH, device=device)))
    for layer, momentum in momenta:
        layer.momentum = momentum


def measure(
    graph: Graph, trainers: Sequence[Trainer], dataset: Dataset[Sample], batch_size: int, device: torch.device
) -> dict[tuple[str, str], float]:
    """Return MSE over the variance of the teacher's output, by (block, operation), in eval mode."""
    waiting = _by_block(trainers)
    errors: dict[tuple[str, str], float] = {(t.block, t.operation): 0.0 for t in trainers}
    moments: dict[str, Moments] = {block.name: Moments() for block in graph.blocks}
    for trainer in trainers:
        trainer.module.eval()

    def observe(block: Block, x: Tensor, y: Tensor) -> None:
        if block.name in waiting:
            moments[block.name].add(y)
        for trainer in waiting.get(block.name, ()):
            difference = (trainer.module(x) - y).float()
            errors[trainer.block, trainer.operation] += difference.square().sum().item()

    _run(graph, observe, (images for images, _ in batches(dataset, batch_size, device=device)))
    return {
        (block, operation): error / moments[block].count / moments[block].variance if moments[block].count else math.nan
        for (block, operation), error in errors.items()
    }


def _by_block(trainers: Sequence[Trainer]) -> dict[str, list[Trainer]]:
    found: dict[str, list[Trainer]] = {}
    for trainer in trainers:
        found.setdefault(trainer.block, []).append(trainer)
    return found


def _stream(
    graph: Graph, dataset: Dataset[Sample], recipe: Recipe, device: torch.device, steps: range
) -> Iterator[tuple[int, Tensor]]:
    """Yield (step, images) for the given steps: one batch each, epoch after epoch in the recipe's order."""
    layout: torch.memory_format | None = None
    seed = derived_seed(recipe.seed, "pretrain", "order") % 2**31
    per_epoch = size(dataset) // recipe.batch_size
    step = steps.start
    while step < steps.stop:
        epoch, first = divmod(step, per_epoch)
        last = min(per_epoch, first + steps.stop - step)
        order = shuffled(size(dataset), seed, epoch)[first * recipe.batch_size : last * recipe.batch_size]
        for images, _ in batches(dataset, recipe.batch_size, order, device):
            layout = layout or _layout(graph, images)
            yield step, images.contiguous(memory_format=layout)
            step += 1


def _run(graph: Graph, observe: Callable[[Block, Tensor, Tensor], None], stream: Iterable[Tensor]) -> None:
    graph.module.eval()
    images = iter(stream)
    with torch.no_grad():
        for first in images:
            layout = _layout(graph, first)
            with graph.observe(observe):
                for batch in chain([first], images):
                    graph.module(batch.contiguous(memory_format=layout))


def _layout(graph: Graph, images: Tensor) -> torch.memory_format:
    """Return the layout that images go through the teacher in; candidates get their features in it too."""
    return torch.channels_last if takes_channels_last(graph, images) else torch.contiguous_format


def takes_channels_last(graph: Graph, images: Tensor) -> bool:
    """Return whether images go through the teacher with their channels together in memory.

    Convolutions are no slower so, depthwise ones twice as fast, on CPUs too (docs/pretraining.md). A teacher that
    takes views of its features may refuse it.
    """
    if images.ndim != 4:
        return False
    try:
        with evaluating(graph.module), torch.no_grad():
            graph.module(images[:2].contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        return False
    return True
