"""What the studies of once-for-all training have in common: an elastic network, its training at a given cost, students.

A pass is one forward and backward pass of the full network over a batch; all costs are counted in them by MACs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hant import trace
from hant.examples.digits.network import DigitsNet
from hant.op_library.cost import macs
from hant.op_library.pools import pool
from hant.passes.candidates.build import build_candidate
from hant.passes.candidates.candidates import unfit
from hant.passes.finetuning.lesson import Lesson
from hant.passes.finetuning.loop import Loop
from hant.passes.finetuning.parallel import Parallel
from hant.passes.finetuning.recipe import TrainingRecipe
from hant.passes.finetuning.state import FinetuneState
from hant.passes.networks.assemble import CandidateWeights
from hant.passes.networks.evaluate import evaluate
from hant.passes.pretraining.engine import variances
from hant.passes.sharing.lesson import SharedFeatures, SharedLabels
from hant.passes.sharing.network import SharedNetwork, recalibrate
from hant.passes.sharing.plan import Draws, Plan, pairs
from hant.passes.sharing.recipe import SharedAlignRecipe, SharedLabelsRecipe
from hant.passes.sharing.schedule import Schedule
from hant.tests.bench.search_cifar10 import teacher_of
from hant.transformer.contracts.data import Data
from hant.transformer.contracts.task import Classification
from hant.transformer.data.images import batches, shuffled, size
from hant.transformer.data.sources import load_data
from hant.transformer.data.splits import take
from hant.transformer.errors import HantError
from hant.transformer.ir.block import Block
from hant.transformer.ir.graph import Graph
from torch import nn

POINTS = 6
"""Students of a front."""
_CALIBRATION = 2048
CPU = torch.device("cpu")
Choice = Mapping[str, str]


class Identities(CandidateWeights):
    """The only candidates here that are no slices have no weights."""

    def __init__(self) -> None:
        pass

    def module(self, block: Block, operation: str) -> nn.Module:
        return nn.Identity()


@dataclass(frozen=True)
class Setting:
    """A network and its data."""

    network: str
    """``digits``: 9 blocks, 8 to 32 channels, images of 8x8; or a pretrained one on CIFAR-10, ``cifar10-resnet20``."""
    folder: Path
    """Of CIFAR-10 and its pretrained networks."""
    data: Data

    @classmethod
    def of(cls, network: str, folder: Path, images: int) -> Setting:
        if network == "digits":
            return cls(network, folder, replace(load_data("digits", (1, 8, 8)), augment=None))
        data = load_data(f"cifar10:{folder}?normalize=imagenet", (3, 32, 32))
        return cls(network, folder, replace(data, train=take(data.train, images)))

    @property
    def batch(self) -> int:
        return 50 if self.network == "digits" else 64

    def teacher(self, seed: int, runs: Path) -> Graph:
        """Return the trained teacher; that of the digits is trained here, on labels alone."""
        if self.network != "digits":
            return trace(teacher_of(self.folder, self.network, runs), torch.zeros(1, 3, 32, 32))
        torch.manual_seed(seed)
        network = DigitsNet((8, 16, 32))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
        train = self.data.train
        for epoch in range(8):
            for images, labels in batches(train, self.batch, shuffled(size(train), seed, epoch), drop_last=True):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return trace(network.eval(), torch.zeros(1, 1, 8, 8))


def costs_of(graph: Graph) -> dict[str, dict[str, int]]:
    """Return the operations of the pool ``elastic`` that fit, with their MACs, by block."""

    def cost(block: Block, spec: Any) -> int | None:
        try:
            return None if unfit(block, spec) else macs(build_candidate(block, spec, 0), block.input)
        except HantError:
            return None

    found = {block.name: {spec.name: cost(block, spec) for spec in pool("elastic")} for block in graph.replaceable}
    return {block: {name: c for name, c in row.items() if c is not None} for block, row in found.items()}


def plan_of(
    graph: Graph, costs: Mapping[str, Mapping[str, int]], schedule: Schedule, seed: int, front: list[Choice]
) -> Plan:
    """Return a plan of one step; without a ``front`` any student is drawn."""
    return Plan(
        schedule=schedule,
        total=1,
        front=tuple(tuple((block, choice.get(block, "teacher")) for block in costs) for choice in front),
        operations=pairs(costs),
        outside=graph.macs - sum(row["teacher"] for row in costs.values()),
        any=not front,
        seed=seed,
    )


def long(plan: Plan, passes: float) -> Plan:
    """Return the plan with as many steps as cost so many passes."""
    low, high = 1, round(passes * 10)
    while high - low > 1:
        middle = (low + high) // 2
        cheap = replace(plan, total=middle).passes(middle) <= passes
        low, high = (middle, high) if cheap else (low, middle)
    return replace(plan, total=low)


def shared_of(teacher: Graph, costs: Mapping[str, Mapping[str, int]], drawn: int | None = None) -> SharedNetwork:
    """Return the elastic network, its weights drawn anew by a seed where one is given."""
    return SharedNetwork(teacher, {block: tuple(row) for block, row in costs.items()}, Identities(), drawn)


def loop_of(
    shared: SharedNetwork, teacher: Graph, plan: Plan, setting: Setting, rate: float, features: bool = False
) -> Loop:
    """Return the training as one epoch of all of the plan's steps."""
    batch, data = setting.batch, setting.data
    common: dict[str, Any] = {"epochs": 1, "steps": plan.total, "batch_size": batch, "seed": plan.seed, "start": ""}
    lesson: Lesson
    recipe: TrainingRecipe
    shared.network.requires_grad_(True)
    if features:
        how = SharedAlignRecipe(learning_rate=rate, plan=plan, **common)
        scale = variances(teacher, take(data.train, 512), batch, CPU)
        lesson = SharedFeatures(shared, teacher, scale, plan, how.teacher_share)
        recipe, optimizer = how, how.make_optimizer(lesson.blocks)
    else:
        taught = 0.0 if plan.schedule.teach == "none" else 1.0
        full = SharedLabelsRecipe(learning_rate=rate, distillation=0.0, plan=plan, **common)
        others = replace(full, cross_entropy=plan.schedule.labels, distillation=taught)
        lesson = SharedLabels(shared, teacher.network, Classification(), plan, full, others)
        recipe, optimizer = full, full.make_optimizer(shared.network.parameters())
    images = size(data.train)
    whole = images // batch * batch
    order = torch.cat([shuffled(images, plan.seed, epoch)[:whole] for epoch in range(-(-plan.total * batch // whole))])
    many = torch.utils.data.Subset(data.train, order[: plan.total * batch].tolist())
    state = FinetuneState(shared.network, optimizer)
    return Loop(state, lesson, recipe, many, data.augment, CPU, Parallel(CPU))


def front_of(plan: Plan, points: int = POINTS) -> list[Choice]:
    """Return students from the least to the full network, evenly by cost."""
    draws = Draws(plan.operations, ("*",))
    between = [draws.choice(draws.pull(n / (points - 1)), np.random.default_rng(n)) for n in range(1, points - 1)]
    return [replace(plan, any=True).least, *between, {}]


def accuracy_of(shared: SharedNetwork, choice: Choice, data: Data) -> float:
    """Return top-1 on the test images of a student with batch norms of its own."""
    student = shared.student(choice)
    recalibrate(student, (images for images, _ in batches(take(data.train, _CALIBRATION), 256)))
    return evaluate(student.network.eval(), data.test).accuracy


def points_of(
    shared: SharedNetwork, plan: Plan, data: Data, front: list[Choice] | None = None
) -> list[tuple[float, float]]:
    """Return (share of the MACs, top-1 on test images) of the students of a front."""
    chosen = front or front_of(plan)
    return [(plan.macs(choice) / plan.macs({}), accuracy_of(shared, choice, data)) for choice in chosen]


def each_step(loop: Loop, look: Callable[[int], None]) -> None:
    """Train, and call ``look`` with the number of steps done after each."""
    done = iter(range(1, loop.recipe.total + 1))
    loop.epoch(lambda: look(next(done)))
