"""Perturb the MasterNet: one place at a time has another super-block, is trained shortly and evaluated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ...op_library.cost import macs
from ...op_library.structure import Structure, SuperBlockNetwork
from ...op_library.tensor_spec import TensorSpec
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, Decay, Factor, Pass, PassResult, Positive, setting
from ...transformer.contracts.task import Classification
from ...transformer.data.images import size
from ...transformer.data.splits import split
from ...transformer.errors import UsageError
from .master import master_of
from .perturbation import Recipe, perturbed
from .records import MasterRecord, PerturbationRecord
from .sampling import sampled
from .space import Box, Option, Place, places

_MANY = 1000
"""Held-out images from which on a difference of two networks is told well enough for nine samples."""


@dataclass(frozen=True)
class PerturbPass(Pass):
    """Train and evaluate samples of every type at every place; a few that train together are a unit of work."""

    name: ClassVar[str] = "perturb"
    requires: ClassVar[tuple[str, ...]] = ("master",)
    ensures: ClassVar[tuple[str, ...]] = ("perturbation",)

    samples: Count | None = None
    """Of each type at each place, beside its reference (N); by default 9 as in the paper, or 5 where so few images are
    held out that more would not tell more."""
    epochs: Count = 2
    batch_size: Count = 64
    learning_rate: Positive = 0.02
    """Falls as a cosine."""
    momentum: Decay = 0.9
    weight_decay: Factor = 4e-5
    distillation: Factor = 1.0
    """Factor of the divergence from the MasterNet's answers; 0 trains on labels alone."""
    augment: bool = True
    kernels: tuple[int, ...] = Box.kernels
    bottlenecks: tuple[float, ...] = Box.bottlenecks
    """Inner over output channels of ``bl``."""
    expansions: tuple[float, ...] = Box.expansions
    """Inner over output channels of ``dw``."""
    widths: tuple[float, ...] = Box.widths
    """Factors of the MasterNet's widths."""
    depth: int = Box.depth
    """Basic blocks more or less than the MasterNet's."""
    multiple: Count = Box.multiple
    """Widths are multiples of it."""
    types: str = Box.types
    """``own``: the MasterNet's basic type at each place; ``all``: any."""
    heaviest: Positive | None = 2.0
    """Times the MasterNet's MACs that a sample may take: no budget has room for heavier ones, which cost the most to
    train. None: any."""
    together: Count = setting(10, decides=False)
    """Networks that are trained at the same time."""

    @property
    def box(self) -> Box:
        """The searched space."""
        return Box(self.kernels, self.bottlenecks, self.expansions, self.widths, self.depth, self.multiple, self.types)

    def check(self, context: Context) -> None:
        """Refuse data that are not for a classifier: designs are compared by their losses on labels."""
        if context.data is not None and not isinstance(context.data.task, Classification):
            raise UsageError(f"designs need a classifier, the data have the task {context.data.task.name!r}")

    def run(self, context: Context) -> PassResult:
        """Train what is not yet in the run."""
        master = master_of(context)
        record = context.store.get(MasterRecord, "master")
        assert record is not None, "required by the pass contract"
        recipe = self._recipe(context, record.digest)
        found = places(master[0], self.box)
        chosen = [(place, option) for place in found for option in self._samples(context, master, place)]
        keys = {_key(place, option): (place, option) for place, option in chosen}
        for key, old in context.store.all(PerturbationRecord).items():
            if old.recipe != recipe.fingerprint or key not in keys:
                context.store.delete(PerturbationRecord, key)
        known = context.store.all(PerturbationRecord)
        todo = [pair for key, pair in keys.items() if key not in known]
        with context.progress.task("perturb", len(todo)) as task:
            for place, options in _groups(todo, self.together):
                structures = [_with(master[0], place, option) for option in options]
                found = perturbed(context, master, place.index, structures, recipe)
                with context.store.transaction():
                    for option, metrics in zip(options, found, strict=True):
                        made = PerturbationRecord(
                            place=place.index,
                            type=option.type,
                            depth=option.depth,
                            width=option.item.width,
                            reference=(option.depth, option.item.width) == (place.own.depth, place.own.item.width),
                            loss=metrics.loss,
                            accuracy=metrics.accuracy,
                            recipe=recipe.fingerprint,
                        )
                        context.store.put(_key(place, option), made)
                task.advance(len(options), str(options[-1].item))
        return PassResult(notes=(f"{len(keys)} networks around the MasterNet, {len(todo)} of them trained now",))

    def _samples(self, context: Context, master: tuple[Structure, Mapping[str, Tensor]], place: Place) -> list[Option]:
        count = self.samples
        if count is None:
            count = 9 if size(split(context.dataset, context.seed).held_out) >= _MANY else 5

        classes, shape = len(master[1]["head.fc.bias"]), tuple(context.example_inputs[0].shape[1:])
        most = math.inf if self.heaviest is None else self.heaviest * _macs(master[0], classes, shape)

        def fits(option: Option) -> bool:
            return most == math.inf or _macs(_with(master[0], place, option), classes, shape) <= most

        return [option for kind in place.types for option in sampled(place, kind, count, context.seed, fits=fits)]

    def _recipe(self, context: Context, master: str) -> Recipe:
        return Recipe(
            epochs=self.epochs,
            batch_size=min(self.batch_size, size(split(context.dataset, context.seed).fit)),
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            distillation=self.distillation,
            augment=self.augment,
            seed=context.seed,
            master=master,
        )


def _macs(structure: Structure, classes: int, shape: tuple[int, ...]) -> int:
    """Return the multiply-accumulates for an image of this shape (C, H, W)."""
    with torch.device("meta"):
        return macs(SuperBlockNetwork(structure, classes, shape[0]), TensorSpec(shape))


def _key(place: Place, option: Option) -> str:
    return f"{place.index}/{option.item.operation}@{option.item.width}"


def _with(structure: Structure, place: Place, option: Option) -> Structure:
    items = list(structure.items)
    items[place.index] = option.item
    return replace(structure, items=tuple(items))


def _groups(todo: list[tuple[Place, Option]], most: int) -> Iterator[tuple[Place, list[Option]]]:
    """Yield options of one place that are trained together."""
    group: list[Option] = []
    for index, (place, option) in enumerate(todo):
        group.append(option)
        following = todo[index + 1][0] if index + 1 < len(todo) else None
        if len(group) == most or following is None or following.index != place.index:
            yield place, group
            group = []
