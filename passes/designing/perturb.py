"""Perturb the MasterNet: one place at a time has another super-block, is trained shortly and evaluated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from ...op_library.structure import Structure
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, Decay, Factor, Pass, PassResult, Positive, Work, one_of, setting
from ...transformer.contracts.task import Classification
from ...transformer.data.images import size
from ...transformer.data.splits import split
from ...transformer.errors import UsageError
from ..networks.resolution import size_of
from .counts import counts
from .master import MasterPass, master_of
from .perturbation import Recipe, perturbed
from .presets import PRESETS, Preset
from .records import MasterRecord, PerturbationRecord
from .sampling import sampled
from .space import Box, Option, Place, places
from .timing import shape_of

_MANY = 1000
"""Held-out images from which on differences of networks are told well enough for nine samples of two epochs."""


@dataclass(frozen=True)
class PerturbPass(Pass):
    """Train and evaluate samples of every type at every place; a few that train together are a unit of work."""

    name: ClassVar[str] = "perturb"
    requires: ClassVar[tuple[str, ...]] = ("master",)
    ensures: ClassVar[tuple[str, ...]] = ("perturbation",)

    preset: Annotated[str, one_of(PRESETS)] = "auto"
    """Where options come from that are not given: ``auto``, or ``paper``."""
    samples: Count | None = None
    """Of each type at each place, beside its reference (N); ``auto`` is 9 as in the paper, or 5 where so few images are
    held out that more would not tell more."""
    epochs: Count | None = None
    """``auto`` is 2, or 1 where so few images are held out; ``paper`` 30."""
    batch_size: Count = 64
    learning_rate: Positive | None = None
    """Falls as a cosine; ``auto`` from 0.02, ``paper`` from 0.01."""
    momentum: Decay = 0.9
    weight_decay: Factor = 4e-5
    distillation: Factor | None = None
    """Factor of the divergence from the MasterNet's answers: 1 in ``auto``; 0, as in ``paper``, trains on labels
    alone."""
    augment: bool = True
    kernels: tuple[int, ...] = Box.kernels
    bottlenecks: tuple[float, ...] = Box.bottlenecks
    """Inner over output channels of ``bl``."""
    expansions: tuple[float, ...] | None = None
    """Inner over output channels of ``dw``: 3 and 6, in ``paper`` 9 too."""
    widths: tuple[float, ...] = Box.widths
    """Factors of the MasterNet's widths."""
    depth: int = Box.depth
    """Basic blocks more or less than the MasterNet's."""
    multiple: Count = Box.multiple
    """Widths are multiples of it."""
    types: str = Box.types
    """``own``: the MasterNet's basic type at each place; ``all``: any."""
    heaviest: Positive | None = None
    """Times the MasterNet's MACs that a sample may take: 2 in ``auto``, since heavier ones cost the most to train and
    only budgets above the MasterNet's latency have room for them; any in ``paper``."""
    together: Count = setting(10, decides=False)
    """Networks that are trained at the same time."""
    master: MasterPass = MasterPass()
    """What is varied."""

    @property
    def box(self) -> Box:
        """The searched space."""
        expansions = self.expansions or self._usual.expansions
        return Box(self.kernels, self.bottlenecks, expansions, self.widths, self.depth, self.multiple, self.types)

    @property
    def _usual(self) -> Preset:
        return PRESETS[self.preset]

    def check(self, context: Context) -> None:
        """Refuse data that are not for a classifier: designs are compared by their losses on labels."""
        if context.data is not None and not isinstance(context.data.task, Classification):
            raise UsageError(f"designs need a classifier, the data have the task {context.data.task.name!r}")

    def work(self, context: Context) -> Work:
        """Count the networks and their steps."""
        structure, (classes, channels) = self.master.parsed(), shape_of(context)
        recipe = self._recipe(context, "")
        images = size(split(context.dataset, context.seed).fit) // recipe.batch_size * recipe.batch_size * recipe.epochs
        networks = [_with(structure, *pair) for pair in self._chosen(context, structure, classes)]
        return Work(
            f"{len(networks)} networks x {images // recipe.batch_size} steps of {recipe.batch_size} images",
            macs=3.0 * images * sum(counts(network, classes, channels, size_of(context))[1] for network in networks),
        )

    def run(self, context: Context) -> PassResult:
        """Train what is not yet in the run."""
        master = master_of(context)
        record = context.store.get(MasterRecord, "master")
        assert record is not None, "required by the pass contract"
        recipe = self._recipe(context, record.digest)
        chosen = self._chosen(context, master[0], len(master[1]["head.fc.bias"]))
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

    def _chosen(self, context: Context, structure: Structure, classes: int) -> list[tuple[Place, Option]]:
        """Return what is trained, in order."""
        found = places(structure, self.box)
        return [(place, option) for place in found for option in self._samples(context, structure, classes, place)]

    def _samples(self, context: Context, structure: Structure, classes: int, place: Place) -> list[Option]:
        count = self.samples or self._usual.samples or (9 if _many(context) else 5)
        images = context.example_inputs[0].shape[1], size_of(context)
        heaviest = self.heaviest or self._usual.heaviest
        most = math.inf if heaviest is None else heaviest * counts(structure, classes, *images)[1]

        def fits(option: Option) -> bool:
            return most == math.inf or counts(_with(structure, place, option), classes, *images)[1] <= most

        corners = self._usual.corners
        return [
            option
            for kind in place.types
            for option in sampled(place, kind, count, context.seed, fits=fits, corners=corners)
        ]

    def _recipe(self, context: Context, master: str) -> Recipe:
        return Recipe(
            epochs=self.epochs or self._usual.epochs or (2 if _many(context) else 1),
            batch_size=min(self.batch_size, size(split(context.dataset, context.seed).fit)),
            learning_rate=self.learning_rate or self._usual.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            distillation=self._usual.distillation if self.distillation is None else self.distillation,
            augment=self.augment,
            seed=context.seed,
            master=master,
        )


def _many(context: Context) -> bool:
    """Return whether so many images are held out that they tell networks well apart."""
    return size(split(context.dataset, context.seed).held_out) >= _MANY


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
