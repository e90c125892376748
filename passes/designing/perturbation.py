"""Short training of networks that differ from the MasterNet at one place (GENet section 4.2, "distillation").

What stands before the place is run once a batch for all that are in training; each has an optimizer of its own and
sees the same images in the same order, so differences are paired, and do not depend on how many train together.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...op_library.families.superblock import BasicBlock
from ...op_library.structure import Structure, SuperBlockNetwork
from ...transformer.contracts.context import Context
from ...transformer.data.images import batches, shuffled, size
from ...transformer.data.splits import changed_part, split
from ...transformer.tools.seeds import derived_seed
from ..finetuning.labels import loss_of
from ..finetuning.recipe import FinetuneRecipe
from ..networks.crew import crew
from ..networks.evaluate import Metrics, evaluate
from ..ranking.recalibrate import batch_norm_statistics
from .inherit import varied


@dataclass(frozen=True)
class Recipe:
    """How every perturbation is trained."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    distillation: float
    """Factor of the divergence from the MasterNet's answers, beside the cross-entropy."""
    augment: bool
    seed: int
    master: str
    """Digest of the MasterNet's weights."""
    recalibration: int = 500
    """Training images from which the norms' statistics are taken again."""

    @property
    def fingerprint(self) -> str:
        """Short hash."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def parts(network: SuperBlockNetwork) -> list[nn.Module]:
    """Return the parts of a network in order: one a place, and the head."""
    return [network.stem, *network.stages, network.final_conv, network.head]


def trained_parts(network: SuperBlockNetwork, place: int) -> list[nn.Module]:
    """Return what is new where a place is varied: its part, and the input side of the next part.

    That is the next super-block's first convolution and its projection, the last convolution, or the linear layer.
    """
    following = parts(network)[place + 1]
    if place + 1 == len(parts(network)) - 1:
        return [parts(network)[place], network.head]
    if place + 1 == len(parts(network)) - 2:
        return [parts(network)[place], network.final_conv]
    first = cast(BasicBlock, cast(nn.Sequential, following)[0])
    entry = next(layer for name, layer in first.named_children() if name.startswith("conv1"))
    return [parts(network)[place], entry, first.shortcut]


def perturbed(
    context: Context,
    master: tuple[Structure, Mapping[str, Tensor]],
    place: int,
    structures: Sequence[Structure],
    recipe: Recipe,
) -> list[Metrics]:
    """Return what each structure, which differs from the MasterNet at ``place`` alone, is worth after its training."""
    device = context.device
    own = _ready(varied(*master, context.seed), device)
    networks = [_ready(varied(structure, master[1], context.seed), device) for structure in structures]
    optimizers = [_optimizer(network, place, recipe) for network in networks]
    before, behind = nn.Sequential(*parts(own)[:place]), nn.Sequential(*parts(own)[place:])
    tails = [nn.Sequential(*parts(network)[place:]) for network in networks]
    weights = FinetuneRecipe(
        epochs=1, steps=1, batch_size=2, learning_rate=1.0, seed=0, start="", distillation=recipe.distillation
    )
    shared, found = dict[str, Tensor](), dict[int, Metrics]()

    def teach(images: Tensor) -> None:
        with torch.no_grad():
            shared["features"] = before(images)
            shared["taught"] = behind(shared["features"])

    def learn(index: int, labels: Tensor, rate: float) -> None:
        for group in optimizers[index].param_groups:
            group["lr"] = rate
        optimizers[index].zero_grad()
        loss = loss_of(tails[index](shared["features"]), labels, shared["taught"], weights)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizers[index].step()

    def judge(index: int) -> None:
        found[index] = _worth(context, networks[index].eval(), recipe.recalibration)

    with crew(0, device) as hands:
        for step, total, images, labels in _steps(context, recipe):
            rate = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / total))
            hands.run([partial(teach, images)])
            hands.run(partial(learn, index, labels, rate) for index in range(len(tails)))
        hands.run(partial(judge, index) for index in range(len(networks)))
    return [found[index] for index in range(len(networks))]


def _ready(network: SuperBlockNetwork, device: torch.device) -> SuperBlockNetwork:
    """Return the network on the device, its channels together in memory: on CPUs it trains in half the time."""
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _optimizer(network: SuperBlockNetwork, place: int, recipe: Recipe) -> torch.optim.Optimizer:
    """Freeze all but what is new, whose norms train, and return the optimizer of that."""
    network.requires_grad_(False).eval()
    for part in trained_parts(network, place):
        part.requires_grad_(True)
        part.train()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.SGD(
        trained, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.momentum > 0
    )


def _steps(context: Context, recipe: Recipe) -> Iterator[tuple[int, int, Tensor, Any]]:
    """Yield (step, all steps, images, labels) of every batch."""
    fit, data = split(context.dataset, context.seed).fit, context.dataset
    count = max(1, size(fit) // recipe.batch_size)
    total = count * recipe.epochs
    for epoch in range(recipe.epochs):
        seed = derived_seed(recipe.seed, "perturb", str(epoch)) % 2**31
        changed = changed_part(data, fit) if recipe.augment else None
        images = fit if changed is None else changed(seed)
        generator = torch.Generator().manual_seed(seed)
        found = batches(images, recipe.batch_size, shuffled(size(fit), seed, epoch), context.device)
        for step, (batch, labels) in enumerate(islice(found, count)):
            drawn = data.augment(batch, generator) if recipe.augment and data.augment is not None else batch
            yield epoch * count + step, total, drawn, labels


def _worth(context: Context, network: nn.Module, images: int) -> Metrics:
    """Return loss and metric on held-out images, with statistics of the norms that belong to the whole network."""
    halves = split(context.dataset, context.seed)
    stream = batches(halves.fit, 250, torch.arange(min(images, size(halves.fit))))
    buffers = batch_norm_statistics(network, (batch.to(context.device) for batch, _ in stream))
    network.load_state_dict(buffers, strict=False)
    return evaluate(network, halves.held_out, 256, context.device, context.dataset.task)
