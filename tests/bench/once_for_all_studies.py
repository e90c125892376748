"""The studies of ``once_for_all.py``: each yields its variants, with a function that measures one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from hant.passes.finetuning.loop import Loop
from hant.passes.sharing.front import mean_pareto_accuracy
from hant.passes.sharing.network import SharedNetwork
from hant.passes.sharing.plan import Plan
from hant.passes.sharing.schedule import SCHEDULES, Phase, Schedule, adjusted
from hant.tests.bench.once_for_all_training import (
    POINTS,
    Choice,
    Setting,
    accuracy_of,
    costs_of,
    each_step,
    front_of,
    long,
    loop_of,
    plan_of,
    points_of,
    shared_of,
)
from hant.transformer.ir.graph import Graph
from torch import nn

Facts = dict[str, Any]
Variants = Iterator[tuple[str, Callable[[], Facts]]]
DEPS, FRONT = SCHEDULES["deps"], SCHEDULES["front"]
ALONE = Schedule((Phase(1.0, full=True, least=False, draws=0),), teach="none", labels=1.0)
"""The full network by itself."""
FROM_NOTHING: dict[str, Schedule] = {
    "deps, delay 0": adjusted(DEPS, delay=0.0),
    "deps, delay 25 %": adjusted(DEPS, delay=0.25),
    "deps, delay 50 %": DEPS,
    "deps, delay 75 %": adjusted(DEPS, delay=0.75),
    "deps, no epsilon": adjusted(DEPS, ramp=0.0),
    "deps, labels in place of answers": adjusted(DEPS, teach="none", labels=1.0),
    "progressive, labels alone": adjusted(SCHEDULES["progressive"], teach="none"),
    "random": SCHEDULES["random"],
    "deps, delay 10 %": adjusted(DEPS, delay=0.1),
}
"""``deps, delay 0`` is BigNAS but for epsilon; OFA's order has no trained teacher here."""
FROM_TEACHER: dict[str, Schedule] = {
    "none": adjusted(FRONT, draws=0),
    "align": SCHEDULES["align"],
    "features alone": adjusted(SCHEDULES["align"], labels=0.0),
    "front": FRONT,
    "deps": adjusted(DEPS, delay=0.0),
    "sandwich": SCHEDULES["sandwich"],
    "random": SCHEDULES["random"],
}
RATES = {"nothing": 0.05, "teacher": 0.02, "features": 0.1}
"""Highest rates, by where the weights begin, and of training on features."""
_ROUNDS, _STEPS = 5, 10
"""Of timing: rounds, and steps in each."""
_WATCHED = 200
"""Steps behind the delay in which gradients are looked at."""


@dataclass(frozen=True)
class Job:
    """What one command measures."""

    study: str
    setting: Setting
    passes: float
    runs: Path

    def __hash__(self) -> int:
        return hash((self.study, self.setting.network, self.passes))


@cache
def teacher_of(job: Job, seed: int) -> tuple[Graph, Mapping[str, Mapping[str, int]]]:
    """Return the teacher, and what its blocks' operations cost."""
    graph = job.setting.teacher(seed, job.runs)
    return graph, costs_of(graph)


@dataclass
class Run:
    """An elastic network in training."""

    job: Job
    seed: int
    drawn: bool = False

    def __post_init__(self) -> None:
        self.teacher, self.costs = teacher_of(self.job, self.seed)
        self.shared: SharedNetwork = shared_of(self.teacher, self.costs, self.seed if self.drawn else None)

    def plan(self, schedule: Schedule, passes: float, front: list[Choice] | None = None) -> Plan:
        return long(plan_of(self.teacher, self.costs, schedule, self.seed, front or []), passes)

    def loop(self, plan: Plan, rate: float, features: bool = False) -> Loop:
        return loop_of(self.shared, self.teacher, plan, self.job.setting, rate, features)

    def train(self, schedule: Schedule, passes: float, front: list[Choice] | None = None) -> int:
        """Train, half of the cost on features where the schedule begins with them; return the steps."""
        halves = (0.0, 1.0) if not schedule.aligned else (0.5, 0.5) if schedule.labels else (1.0, 0.0)
        steps = 0
        for features, share in zip((True, False), halves, strict=True):
            if share:
                plan = self.plan(schedule, share * passes, front)
                self.loop(plan, RATES["features" if features else "nothing" if self.drawn else "teacher"]).epoch()
                steps += plan.total
        return steps

    def facts(self, started: float, steps: int, front: list[Choice] | None = None) -> Facts:
        """Return what a row says of a trained front."""
        seconds = time.process_time() - started
        points = points_of(self.shared, self.plan(FRONT, 2), self.job.setting.data, front)
        return {"steps": steps, "cpu_seconds": round(seconds, 1), **summary(points)}


def summary(points: list[tuple[float, float]]) -> Facts:
    """Return the points of a front and their mean Pareto accuracy."""
    rounded = [(round(cost, 4), round(accuracy, 2)) for cost, accuracy in points]
    return {"points": rounded, "mean": round(mean_pareto_accuracy(points), 2)}


def schedules(job: Job, seed: int) -> Variants:
    """Each schedule at the same cost."""
    nothing = job.study == "nothing"

    def measure(name: str, schedule: Schedule) -> Facts:
        run, started = Run(job, seed, drawn=nothing), time.process_time()
        steps = 0 if name == "none" else run.train(schedule, job.passes)
        return run.facts(started, steps)

    for name, schedule in (FROM_NOTHING if nothing else FROM_TEACHER).items():
        yield name, partial(measure, name, schedule)


def together(job: Job, seed: int) -> Variants:
    """Six students, each trained alone for a sixth of the cost, and all from one training."""

    def alone() -> Facts:
        started, steps, points = time.process_time(), 0, []
        front = front_of(Run(job, seed).plan(FRONT, 2))
        seconds = 0.0
        for choice in front:
            run = Run(job, seed)
            started = time.process_time()
            steps += run.train(adjusted(FRONT, draws=1), job.passes / POINTS, [choice])
            seconds += time.process_time() - started
            points += points_of(run.shared, run.plan(FRONT, 2), job.setting.data, [choice])
        return {"steps": steps, "cpu_seconds": round(seconds, 1), **summary(points)}

    def shared(schedule: Schedule, share: float, named: bool) -> Facts:
        run, started = Run(job, seed), time.process_time()
        front = front_of(run.plan(FRONT, 2))
        return run.facts(started, run.train(schedule, share * job.passes, front if named else None), front)

    yield "alone", alone
    yield "shared", partial(shared, FRONT, 1.0, True)
    yield "shared, half the cost", partial(shared, FRONT, 0.5, True)
    yield "shared with features first, half the cost", partial(shared, SCHEDULES["align"], 0.5, True)
    yield "any students, half the cost", partial(shared, FRONT, 0.5, False)


def gradients(job: Job, seed: int) -> Variants:
    """DepS from nothing, where its students begin."""

    def measure(schedule: Schedule, rate: float) -> Facts:
        run = Run(job, seed, drawn=True)
        plan = run.plan(schedule, job.passes)
        first = round(plan.schedule.phases[0].share * plan.total)
        loop, full = run.loop(plan, rate), FullGradient(run.shared.network)
        loop.lesson.turn = full.watched(loop.lesson.turn)  # type: ignore[method-assign, assignment]
        rows: list[tuple[int, float, float]] = []
        accuracies: list[tuple[int, float]] = []

        def look(step: int) -> None:
            if first < step <= first + _WATCHED:
                rows.append((step - first, *full.compared()))
            if first - 10 <= step <= first + _WATCHED and (step - first) % 10 == 0:
                accuracies.append((step - first, accuracy_of(run.shared, {}, job.setting.data)))

        each_step(loop, look)
        before = accuracies[0][1] if accuracies else 0.0
        return {
            "steps": plan.total,
            "ratios": [(step, round(ratio, 4)) for step, ratio, _ in rows],
            "cosines": [(step, round(cosine, 4)) for step, _, cosine in rows],
            "full": accuracies,
            "dip": round(before - min((accuracy for _, accuracy in accuracies), default=before), 2),
        }

    for rate in (0.05, 0.4):
        yield f"epsilon, rate {rate}", partial(measure, DEPS, rate)
        yield f"no epsilon, rate {rate}", partial(measure, adjusted(DEPS, ramp=0.0), rate)


class FullGradient:
    """The gradient of the full network's pass alone, and that of all passes."""

    def __init__(self, network: nn.Module) -> None:
        self._parameters = list(network.parameters())
        self._alone: list[torch.Tensor | None] = []

    def watched(self, turn: Callable[[int], None]) -> Callable[[int], None]:
        """Return ``turn`` with a look at the gradients before the second pass of a step."""

        def look(index: int) -> None:
            if index == 1:
                self._alone = [None if p.grad is None else p.grad.clone() for p in self._parameters]
            turn(index)

        return look

    def compared(self) -> tuple[float, float]:
        """Return |sum|^2 / |full|^2 of the last step, and the cosine between both."""
        pairs = [(a, p.grad) for a, p in zip(self._alone, self._parameters, strict=True) if a is not None]
        known = [(a.double().flatten(), b.double().flatten()) for a, b in pairs if b is not None]
        ours = sum(float(a @ a) for a, _ in known)
        whole = sum(float((p.grad.double() ** 2).sum()) for p in self._parameters if p.grad is not None)
        both = sum(float(a @ b) for a, b in known)
        return whole / ours, both / (ours * whole) ** 0.5


def cuts(job: Job, seed: int) -> Variants:
    """Students cut without any training out of a full network on its way."""

    def measure() -> Facts:
        run = Run(job, seed, drawn=True)
        plan = run.plan(ALONE, job.passes)
        places = {round(share * plan.total): share for share in (0.3, 0.5, 0.7, 1.0)}
        found: dict[str, Facts] = {}

        def look(step: int) -> None:
            if step in places:
                found[f"{places[step]:.0%}"] = summary(points_of(run.shared, plan, job.setting.data))

        each_step(run.loop(plan, RATES["nothing"]), look)
        return {"steps": plan.total, "trained": found}

    yield "full network alone", measure


def step(job: Job, seed: int) -> Variants:
    """What a step of DepS costs over its passes apart, and a training over the number of its students."""

    def measure() -> Facts:
        run = Run(job, seed)
        plan = replace(run.plan(adjusted(DEPS, delay=0.0, ramp=0.0), 2), total=_STEPS)
        loop = run.loop(plan, 1e-4)
        apart = Apart(run, plan, loop)
        apart.epoch()
        loop.epoch()
        ratios = []
        for _ in range(_ROUNDS):
            times = [timed(apart.epoch), timed(partial(again, loop)), timed(apart.epoch)]
            ratios.append(2 * times[1] / (times[0] + times[2]))
        return {"ratio": round(statistics.median(ratios), 3), "rounds": [round(ratio, 3) for ratio in ratios]}

    def many(count: int) -> Facts:
        run = Run(job, seed)
        front = front_of(run.plan(FRONT, 2), count + 2)[1:-1]  # evenly around the same mean cost
        plan = replace(run.plan(FRONT, 2, front), total=120)
        return {"steps": plan.total, "cpu_seconds": round(timed(run.loop(plan, 1e-4).epoch), 2)}

    yield "step over its passes", measure
    for count in (2, 4, 8):
        yield f"{count} students", partial(many, count)


class Apart:
    """The passes of the same steps, each in a network of its own that nothing shares."""

    def __init__(self, run: Run, plan: Plan, loop: Loop) -> None:
        turns = [plan.turns(n) for n in range(plan.total)]
        self._students = [[run.shared.student(turn.choice).network.train() for turn in row] for row in turns]
        self._loop, self._lesson = loop, loop.lesson
        self._optimizers = [
            [torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9) for network in row[:1]]
            for row in self._students
        ]

    def epoch(self) -> None:
        """Run all of them once: the full network on labels, the others on its answers; one step of the optimizer."""
        self._loop.state.step = 0
        self._loop._begin()
        for networks, optimizers, parts in zip(self._students, self._optimizers, self._loop._batches(), strict=True):
            images, labels = parts[0]
            taught = None
            for network in networks:
                network.zero_grad()
                logits = network(images)
                if taught is None:
                    taught = logits.detach().log_softmax(1)
                    loss = nn.functional.cross_entropy(logits, labels)
                else:
                    loss = nn.functional.kl_div(logits.log_softmax(1), taught, reduction="batchmean", log_target=True)
                loss.backward()  # type: ignore[no-untyped-call]
            for optimizer in optimizers:
                optimizer.step()


def again(loop: Loop) -> None:
    """Run the epoch of a loop from its start."""
    loop.state.step = 0
    loop.epoch()


def timed(work: Callable[[], object]) -> float:
    """Return the CPU seconds of some work."""
    started = time.process_time()
    work()
    return time.process_time() - started


def passes(job: Job, seed: int) -> Variants:
    """Cost of a step of each schedule, by counting."""

    def measure(schedule: Schedule) -> Facts:
        run = Run(job, seed)
        plan = replace(plan_of(run.teacher, run.costs, schedule, seed, []), total=1000, draw="uniform")
        return {"passes_a_step": round(plan.passes(plan.total) / plan.total, 3)}

    for name in ("deps", "sandwich", "progressive", "random", "front"):
        yield name, partial(measure, SCHEDULES[name])


STUDIES: dict[str, Callable[[Job, int], Variants]] = {
    "nothing": schedules,
    "teacher": schedules,
    "together": together,
    "gradients": gradients,
    "cuts": cuts,
    "step": step,
    "passes": passes,
}
