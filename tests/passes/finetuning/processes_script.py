"""Train small networks in double precision, as one of the processes of a launcher; the main one prints, by lesson.

``labels`` fine-tunes, ``features`` aligns, ``shared`` trains several students in one network.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import torch
from hant import trace
from hant.passes.finetuning.features import Features
from hant.passes.finetuning.labels import Labels
from hant.passes.finetuning.lesson import Lesson
from hant.passes.finetuning.loop import Loop
from hant.passes.finetuning.parallel import Parallel
from hant.passes.finetuning.recipe import AlignRecipe, FinetuneRecipe
from hant.passes.finetuning.state import FinetuneState
from hant.passes.networks.assemble import independent
from hant.passes.sharing.lesson import SharedLabels
from hant.passes.sharing.network import SharedNetwork
from hant.passes.sharing.plan import Plan
from hant.passes.sharing.schedule import SCHEDULES
from hant.tests.passes.finetuning.architectures import resnet
from hant.tests.passes.sharing.test_network import Untrained, operations
from hant.transformer.contracts.task import Classification
from hant.transformer.data.augmentation import CropFlip
from hant.transformer.data.images import ImageTensors
from hant.transformer.runs.processes import join
from torch import nn

RECIPE = FinetuneRecipe(
    epochs=2,
    steps=4,
    batch_size=12,
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=1e-3,
    warmup=0.1,
    label_smoothing=0.1,
    cross_entropy=1.0,
    distillation=1.0,
    ema=0.9,
    augment=True,
    parts=2,
    mixed_precision="no",
    channels_last=False,
    compiled=False,
    task="",
    seed=0,
    start="",
)


ALIGN = AlignRecipe(epochs=2, steps=4, batch_size=12, learning_rate=0.1, parts=2, seed=0, start="")


class Functional(nn.Module):
    """Calls batch norm as a function, as captured networks do."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.unused = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(1))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("variance", torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.batch_norm(
            x,
            self.weight,
            None,
            self.mean,
            self.variance,
            self.training,
            0.1,
            1e-5,
            False,
        )


def network() -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), Functional(), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 3))


def labels() -> tuple[Lesson, FinetuneState]:
    teacher, student = network(), network()
    optimizer = RECIPE.make_optimizer(student.parameters())
    return Labels(student, teacher, Classification(), RECIPE), FinetuneState(student, optimizer)


def features() -> tuple[Lesson, FinetuneState]:
    teacher = trace(resnet().eval(), (torch.zeros(2, 1, 8, 8),))
    student = independent(teacher.replace({"blocks.1": nn.Identity()}))
    variances = {block.name: 0.5 for block in teacher.blocks}
    lesson = Features(student, teacher, variances, {"blocks.1"}, ALIGN.teacher_share)
    return lesson, FinetuneState(student.network, ALIGN.make_optimizer(lesson.blocks))


def shared() -> tuple[Lesson, FinetuneState]:
    teacher = trace(resnet().eval(), (torch.zeros(2, 1, 8, 8),))
    known = operations(teacher, "teacher,identity,slice_w0.5")
    costs = tuple((name, tuple((operation, 1) for operation in found)) for name, found in known.items())
    plan = Plan(schedule=SCHEDULES["sandwich"], total=8, front=(), operations=costs, outside=1, any=True)
    network = SharedNetwork(teacher, known, Untrained())
    optimizer = RECIPE.make_optimizer(network.network.parameters())
    lesson = SharedLabels(network, teacher.network, Classification(), plan, RECIPE, replace(RECIPE, cross_entropy=0.0))
    return lesson, FinetuneState(network.network, optimizer)


LESSONS = {"labels": labels, "features": features, "shared": shared}


def train(what: str, parallel: Parallel) -> dict[str, Any]:
    torch.manual_seed(0)
    lesson, state = LESSONS[what]()
    recipe = ALIGN if what == "features" else RECIPE
    data = ImageTensors(torch.randn(50, 1, 8, 8), torch.arange(50) % 3)
    state = replace(state, loss=torch.zeros(()))
    loop = Loop(state, lesson, recipe, data, CropFlip(), torch.device("cpu"), parallel)
    losses = []
    for _ in range(recipe.epochs):
        losses.append(loop.epoch())
        state.finish_epoch({})
    tensors = {name: tensor.flatten().tolist() for name, tensor in state.last.items()}
    return {"losses": losses, "tensors": tensors}


def main() -> None:
    join("cpu")
    torch.set_default_dtype(torch.float64)
    parallel = Parallel(torch.device("cpu"))
    trained = {what: train(what, parallel) for what in LESSONS}
    if parallel.main:
        print(json.dumps({"count": parallel.count, **trained}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
