"""Figures of docs/pretraining.md.

    python tests/bench/pretraining.py recipe      # error after the same number of images, recipe by recipe
    python tests/bench/pretraining.py throughput  # all in flight on one teacher pass against one by one
    python tests/bench/pretraining.py layout      # a step on channels-last features against contiguous ones
    python tests/bench/pretraining.py precision   # in half precision against single: time and error
    python tests/bench/pretraining.py memory      # what candidates take, and growth of the process over many steps

Times are CPU seconds of this process on one thread, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import hant
import psutil
import torch
from hant.op_library.pools import pool
from hant.passes.candidates.build import build_candidate
from hant.passes.pretraining.engine import measure, train, variances
from hant.passes.pretraining.memory import footprint
from hant.passes.pretraining.recipe import Recipe, resolve
from hant.passes.pretraining.trainer import Trainer
from hant.transformer.data.images import batches, size
from hant.transformer.data.sources import load_data
from hant.transformer.data.splits import split, take
from hant.transformer.ir.graph import Graph

CPU = torch.device("cpu")
ROUNDS = 2
OPERATIONS = "cb_stack_3x3_ex0.5,cb_bottle_3x3_ex0.25,cb_res_3x3,efn_3x3_e3_se0.25"


class Adam(Trainer):
    """The same with Adam."""

    def __init__(self, block: str, operation: str, module: torch.nn.Module, recipe: Recipe) -> None:
        super().__init__(block, operation, module, recipe)
        self._optimizer = torch.optim.Adam(self._parameters, lr=recipe.learning_rate)  # type: ignore[assignment]


class Bench:
    """Teacher, data and blocks of the measurements."""

    def __init__(self, options: argparse.Namespace) -> None:
        model = hant.load(options.model)
        self.data = load_data(options.data, options.shape)
        self.graph: Graph = hant.trace(model, torch.zeros(2, *options.shape))
        self.parts = split(self.data, 0)
        self.scale = variances(self.graph, take(self.parts.fit, 512), 64, CPU)
        blocks = self.graph.replaceable
        self.blocks = [blocks[round(place * (len(blocks) - 1))] for place in (0.15, 0.4, 0.85)]
        self.specs = pool(options.operations)

    def trainers(self, recipe: Recipe, kind: Callable[..., Trainer] = Trainer) -> list[Trainer]:
        return [
            kind(block.name, spec.name, build_candidate(block, spec, 0), recipe)
            for block in self.blocks
            for spec in self.specs
        ]

    def train(self, trainers: Sequence[Trainer], recipe: Recipe) -> float:
        """Return the CPU seconds of training."""
        started = time.process_time()
        train(self.graph, trainers, recipe, self.parts.fit, self.scale, CPU, workers=1)
        return time.process_time() - started

    def errors(self, trainers: Sequence[Trainer]) -> dict[tuple[str, str], float]:
        """Return the errors on held-out images, by block and operation."""
        return measure(self.graph, trainers, take(self.parts.held_out, 1000), 64, CPU)

    def error(self, trainers: Sequence[Trainer]) -> float:
        """Return the geometric mean of the errors."""
        found = self.errors(trainers)
        return math.exp(sum(map(math.log, found.values())) / len(found))


def recipe(bench: Bench, steps: int) -> None:
    base = replace(resolve(size(bench.parts.fit), 0), steps=steps, batch_size=16)
    plain = replace(base, unit_length=False)
    variants: list[tuple[str, Recipe, Callable[..., Trainer]]] = [
        *((f"momentum SGD, rate {rate}", replace(plain, learning_rate=rate), Trainer) for rate in (0.1, 0.3, 1.0)),
        *((f"Adam, rate {rate}", replace(plain, learning_rate=rate), Adam) for rate in (0.01, 0.03)),
        *((f"unit length, rate {rate}", replace(base, learning_rate=rate), Trainer) for rate in (0.2, 0.4, 0.8)),
    ]
    for name, chosen, kind in variants:
        trainers = bench.trainers(chosen, kind)
        seconds = bench.train(trainers, chosen)
        print(f"{name:28} error {bench.error(trainers):.4f}   {seconds:.1f} CPU s", flush=True)


def throughput(bench: Bench, steps: int) -> None:
    """All operations on all blocks: together, against one candidate at a time with a teacher pass of its own.

    In turns, so that both sides meet the same machine. Starting a process for each candidate is left out, which
    flatters the second side. The weights are the same to the bit either way.
    """
    chosen = replace(resolve(size(bench.parts.fit), 0), steps=steps)
    bench.blocks = list(bench.graph.replaceable)
    seconds: dict[str, list[float]] = {"together": [], "one by one": []}
    ends: dict[str, list[Trainer]] = {}
    for turn in range(ROUNDS):
        for name in list(seconds)[:: 1 if turn % 2 == 0 else -1]:
            ends[name] = bench.trainers(chosen)
            groups = [ends[name]] if name == "together" else [[trainer] for trainer in ends[name]]
            seconds[name].append(sum(bench.train(group, chosen) for group in groups))
        images = steps * chosen.batch_size * len(ends["together"])
        rates = ", ".join(f"{name} {images / found[-1]:.0f}" for name, found in seconds.items())
        print(f"{rates} candidate-images per CPU s, ratio {seconds['one by one'][-1] / seconds['together'][-1]:.2f}")
        sys.stdout.flush()
    same = all(
        torch.equal(a, b)
        for one, other in zip(*ends.values(), strict=True)
        for a, b in zip(one.state().values(), other.state().values(), strict=True)
    )
    print(f"{len(ends['together'])} candidates, batches of {chosen.batch_size}, {steps} steps;", end=" ")
    print(f"weights {'equal' if same else 'differ'}")


def layout(bench: Bench, steps: int) -> None:
    """A step of each operation on each of three blocks, features in both layouts, in turns."""
    chosen = replace(resolve(size(bench.parts.fit), 0), steps=2 * steps)
    one = torch.ones(())
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    images, _ = next(batches(bench.parts.fit, chosen.batch_size))
    with torch.no_grad(), bench.graph.observe(lambda block, x, y: seen.update({block.name: (x.clone(), y.clone())})):
        bench.graph.module(images)
    print("| operation | block | contiguous, ms | channels-last, ms | ratio |\n|---|---|--:|--:|--:|")
    for trainer in bench.trainers(chosen):
        found: list[list[float]] = [[], []]
        sides = [
            [tensor.contiguous(memory_format=form) for tensor in seen[trainer.block]]
            for form in (torch.contiguous_format, torch.channels_last)
        ]
        for turn in range(steps):
            for side in (0, 1) if turn % 2 else (1, 0):
                x, y = sides[side]
                started = time.process_time()
                trainer.step(x, y, one, chosen.rate(turn))
                found[side].append(1e3 * (time.process_time() - started))
        plain, last = (statistics.median(times) for times in found)
        print(f"| {trainer.operation} | {trainer.block} | {plain:.1f} | {last:.1f} | {plain / last:.2f} |", flush=True)


def precision(bench: Bench, steps: int) -> None:
    """The same training in both precisions, in turns: the teacher's pass and each candidate's steps, and its error."""
    single = replace(resolve(size(bench.parts.fit), 0), steps=steps)
    sides = {"no": single, "bf16": replace(single, mixed_precision="bf16")}
    total = dict.fromkeys(sides, 0.0)
    spent: dict[str, dict[tuple[str, str], float]] = {name: {} for name in sides}
    errors: dict[str, dict[tuple[str, str], float]] = {}
    for turn in range(ROUNDS):
        for name in list(sides)[:: 1 if turn % 2 == 0 else -1]:
            trainers = bench.trainers(sides[name])
            total[name] += bench.train(trainers, sides[name])
            errors[name] = bench.errors(trainers)
            for trainer in trainers:
                key = (trainer.block, trainer.operation)
                spent[name][key] = spent[name].get(key, 0.0) + 1e3 * trainer.seconds / trainer.steps / ROUNDS
    print("| operation | block | single, ms | half, ms | ratio | error, single | half |\n|---|---|--:|--:|--:|--:|--:|")
    for key in spent["no"]:
        one, other = spent["no"][key], spent["bf16"][key]
        print(f"| {key[1]} | {key[0]} | {one:.1f} | {other:.1f} | {one / other:.2f} ", end="")
        print(f"| {errors['no'][key]:.4f} | {errors['bf16'][key]:.4f} |")
    print(f"all with the teacher's passes: {total['no']:.1f} and {total['bf16']:.1f} CPU s", end=", ")
    print(f"ratio {total['no'] / total['bf16']:.2f}")


def memory(bench: Bench, steps: int) -> None:
    """What the process takes for candidates in flight, against the estimate of the option ``memory``, and over time."""
    process = psutil.Process()
    chosen = replace(resolve(size(bench.parts.fit), 0), steps=steps)
    seen: list[float] = []

    def look() -> None:
        seen.append(process.memory_info().rss / 2**20)

    found = [footprint(block, spec, chosen.batch_size) for block in bench.blocks for spec in bench.specs]
    estimate = (sum(f.held for f in found) + max(f.working for f in found)) / 2**20
    train(bench.graph, [], replace(chosen, steps=2), bench.parts.fit, bench.scale, CPU, look, workers=1)
    before = seen.pop()
    trainers = bench.trainers(chosen)
    train(bench.graph, trainers, chosen, bench.parts.fit, bench.scale, CPU, look, workers=1)
    tenth = max(1, len(seen) // 10)
    first, last = max(seen[: 2 * tenth]), max(seen[-tenth:])
    print(f"{len(trainers)} candidates: estimated {estimate:.0f} MiB, process grew by {max(seen) - before:.0f} MiB")
    print(f"{steps} steps: at most {first:.0f} MiB in the first fifth, {last:.0f} MiB in the last tenth")


FIGURES = {"recipe": recipe, "throughput": throughput, "layout": layout, "precision": precision, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(FIGURES))
    parser.add_argument("--model", default="examples/digits/teacher.pt")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--shape", type=lambda text: tuple(map(int, text.split("x"))), default=(1, 32, 32))
    parser.add_argument("--operations", default=OPERATIONS)
    parser.add_argument("--steps", type=int, default=220)
    options = parser.parse_args()
    torch.set_num_threads(1)
    FIGURES[options.what](Bench(options), options.steps)


if __name__ == "__main__":
    main()
