"""Schedules of shared training at equal cost, on handwritten digits.

    python tests/bench/once_for_all.py --out docs/results/once-for-all.jsonl --study digits --seeds 0,1

Study ``digits`` trains an elastic residual network (9 blocks, 8 to 32 channels, images of 8x8) from nothing, study
``teacher`` from a trained teacher; every schedule costs the same, counted in passes of the full network over a batch.
Six students from the least to the full network are cut out, their batch norms estimated anew, and evaluated on the test
images. A row is written as soon as it is measured; rows that are there are not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
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
from hant.passes.sharing.front import mean_pareto_accuracy
from hant.passes.sharing.lesson import SharedFeatures, SharedLabels
from hant.passes.sharing.network import SharedNetwork, recalibrate
from hant.passes.sharing.plan import Draws, Plan
from hant.passes.sharing.recipe import SharedAlignRecipe, SharedLabelsRecipe
from hant.passes.sharing.schedule import SCHEDULES, Schedule, adjusted
from hant.transformer.contracts.data import Data
from hant.transformer.contracts.task import Classification
from hant.transformer.data.images import batches, shuffled, size
from hant.transformer.data.sources import load_data
from hant.transformer.errors import HantError
from hant.transformer.ir.block import Block
from hant.transformer.ir.graph import Graph
from torch import nn

BATCH, POINTS = 50, 6
CPU = torch.device("cpu")
DEPS = SCHEDULES["deps"]
FROM_NOTHING: dict[str, Schedule] = {
    "deps, delay 0": adjusted(DEPS, delay=0.0),
    "deps, delay 25 %": adjusted(DEPS, delay=0.25),
    "deps, delay 50 %": DEPS,
    "deps, delay 75 %": adjusted(DEPS, delay=0.75),
    "deps, no epsilon": adjusted(DEPS, ramp=0.0),
    "deps, labels in place of answers": adjusted(DEPS, teach="none", labels=1.0),
    "random": SCHEDULES["random"],
}
FROM_TEACHER: dict[str, Schedule] = {
    "none": adjusted(SCHEDULES["front"], draws=0),
    "align": SCHEDULES["align"],
    "features alone": adjusted(SCHEDULES["align"], labels=0.0),
    "front": SCHEDULES["front"],
    "deps": adjusted(DEPS, delay=0.0),
    "sandwich": SCHEDULES["sandwich"],
    "random": SCHEDULES["random"],
}


class Identities(CandidateWeights):
    """The only candidates here that are no slices have no weights."""

    def __init__(self) -> None:
        pass

    def module(self, block: Block, operation: str) -> nn.Module:
        return nn.Identity()


def costs_of(graph: Graph) -> dict[str, dict[str, int]]:
    """Return the operations of the pool ``elastic`` that fit, with their MACs, by block."""

    def cost(block: Block, spec: Any) -> int | None:
        try:
            return None if unfit(block, spec) else macs(build_candidate(block, spec, 0), block.input)
        except HantError:
            return None

    found = {block.name: {spec.name: cost(block, spec) for spec in pool("elastic")} for block in graph.replaceable}
    return {block: {name: c for name, c in row.items() if c is not None} for block, row in found.items()}


def plan_of(graph: Graph, schedule: Schedule, seed: int, passes: float) -> Plan:
    """Return the plan whose steps cost ``passes`` passes of the full network."""
    costs = costs_of(graph)
    plan = Plan(
        schedule=schedule,
        total=1,
        front=(),
        operations=tuple((block, tuple(row.items())) for block, row in costs.items()),
        outside=graph.macs - sum(row["teacher"] for row in costs.values()),
        any=True,
        seed=seed,
    )
    low, high = 1, round(passes * 10)
    while high - low > 1:
        middle = (low + high) // 2
        cheap = replace(plan, total=middle).passes(middle) <= passes
        low, high = (middle, high) if cheap else (low, middle)
    return replace(plan, total=low)


def train(shared: SharedNetwork, teacher: Graph, plan: Plan, data: Data, rate: float, features: bool) -> None:
    """Train the shared network in place, one step an epoch's share."""
    common: dict[str, Any] = {"epochs": 1, "steps": plan.total, "batch_size": BATCH, "seed": plan.seed, "start": ""}
    lesson: Lesson
    recipe: TrainingRecipe
    shared.network.requires_grad_(True)
    if features:
        how = SharedAlignRecipe(learning_rate=rate, augment=False, plan=plan, **common)
        lesson = SharedFeatures(shared, teacher, variances(teacher, data.train, BATCH, CPU), plan, how.teacher_share)
        recipe, optimizer = how, how.make_optimizer(lesson.blocks)
    else:
        taught = 0.0 if plan.schedule.teach == "none" else 1.0
        full = SharedLabelsRecipe(learning_rate=rate, augment=False, distillation=0.0, plan=plan, **common)
        others = replace(full, cross_entropy=plan.schedule.labels, distillation=taught)
        lesson = SharedLabels(shared, teacher.network, Classification(), plan, full, others)
        recipe, optimizer = full, full.make_optimizer(shared.network.parameters())
    state = FinetuneState(shared.network, optimizer)
    images = size(data.train)
    epochs = -(-plan.total * BATCH // (images // BATCH * BATCH))
    order = torch.cat([shuffled(images, plan.seed, epoch)[: images // BATCH * BATCH] for epoch in range(epochs)])
    many = torch.utils.data.Subset(data.train, order[: plan.total * BATCH].tolist())
    Loop(state, lesson, recipe, many, None, CPU, Parallel(CPU)).epoch()


def points_of(shared: SharedNetwork, plan: Plan, data: Data) -> list[tuple[float, float]]:
    """Return (share of the MACs, top-1 on test images) of students from the least to the full one."""
    draws, found = Draws(plan.operations, ("*",)), []
    for index in range(POINTS):
        choice = draws.choice(draws.pull(index / (POINTS - 1)), np.random.default_rng(index))
        choice = {} if index == POINTS - 1 else plan.least if index == 0 else choice
        student = shared.student(choice)
        recalibrate(student, (images for images, _ in batches(data.train, 256)))
        accuracy = evaluate(student.network.eval(), data.test).accuracy
        found.append((plan.macs(choice) / plan.macs({}), accuracy))
    return found


def teacher_of(data: Data, epochs: int, seed: int) -> Graph:
    """Return the network, trained for some epochs on labels alone; as drawn for 0."""
    torch.manual_seed(seed)
    network = DigitsNet((8, 16, 32))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(epochs):
        for images, labels in batches(data.train, BATCH, shuffled(size(data.train), seed, epoch), drop_last=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return trace(network.eval(), torch.zeros(1, 1, 8, 8))


def row(study: str, name: str, schedule: Schedule, seed: int, passes: float, data: Data) -> dict[str, Any]:
    """Train by one schedule and return what came out."""
    nothing = study == "digits"
    teacher = teacher_of(data, 0 if nothing else 8, seed)
    shared = SharedNetwork(
        teacher,
        {block: tuple(row) for block, row in costs_of(teacher).items()},
        Identities(),
        seed if nothing else None,
    )
    started, steps = time.process_time(), 0
    halves = (0.5, 0.5) if schedule.aligned and schedule.labels else (1.0, 0.0) if schedule.aligned else (0.0, 1.0)
    for features, share in zip((True, False), halves, strict=True):
        if share and passes and name != "none":
            plan = plan_of(teacher, schedule, seed, share * passes)
            train(shared, teacher, plan, data, 0.1 if features else 0.05 if nothing else 0.02, features)
            steps += plan.total
    seconds = time.process_time() - started
    points = points_of(shared, plan_of(teacher, schedule, seed, 2), data)
    return {
        "study": study,
        "schedule": name,
        "seed": seed,
        "passes": passes if name != "none" else 0,
        "steps": steps,
        "cpu_seconds": round(seconds, 1),
        "points": [(round(cost, 4), round(accuracy, 2)) for cost, accuracy in points],
        "mean": round(mean_pareto_accuracy(points), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--study", choices=("digits", "teacher"), default="digits")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--passes", type=float, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    schedules: Mapping[str, Schedule] = FROM_NOTHING if options.study == "digits" else FROM_TEACHER
    data = load_data("digits", (1, 8, 8))
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    known = {tuple(json.loads(line)[key] for key in ("study", "schedule", "seed")) for line in lines}
    for seed in map(int, options.seeds.split(",")):
        for name, schedule in schedules.items():
            if (options.study, name, seed) not in known:
                found = row(options.study, name, schedule, seed, options.passes, data)
                with options.out.open("a") as out:
                    out.write(json.dumps(found) + "\n")
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
