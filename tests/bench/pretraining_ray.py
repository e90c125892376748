"""How pretraining on Ray scales, and what workers that die cost (docs/pretraining.md).

    OMP_NUM_THREADS=1 python tests/bench/pretraining_ray.py

Trains the same candidates with one worker and with several, in turns, each in a new run, then with workers killed at
random moments. Ray is started before and has trained a little, so that starting it is told apart. Units are the same
in all runs. Wall seconds, so the machine must have nothing else to do. Weights are compared to the bit.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import hant
import psutil
import ray
import torch
from hant import RunStore
from hant.backends.targets.load import load_target
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.capturing.capture import CapturePass
from hant.passes.pretraining.pretrain import PretrainPass, missing
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.pretraining.units import Cut, units
from hant.transformer.contracts.context import Context
from hant.transformer.data.sources import load_data
from hant.transformer.plugins import load_plugin

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Trained:
    """One run."""

    seconds: float
    """Wall."""
    weights: Weights
    units: int
    killed: int = 0


class Bench:
    """The same work, again and again."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options, self._folder, self._count = options, folder, 0

    def train(self, workers: int, epochs: float, kills: int = 0, within: float = 0.0, seed: int = 0) -> Trained:
        """Train with ``workers``; kill ``kills`` of them at random moments of the first ``within`` seconds."""
        options = self._options
        stage = PretrainPass(
            epochs=epochs,
            in_flight=options.in_flight,
            save_seconds=options.save_seconds,
            executor="ray",
            workers=workers,
        )
        self._count += 1
        with RunStore(self._folder / str(self._count)) as store:
            context = self._context(store)
            count = self._units(context)
            started = time.perf_counter()
            with killing(kills, within, seed) as killed:
                stage.run(context)
            seconds = time.perf_counter() - started
            states = {record.state for record in store.all(CandidateRecord).values()}
            assert states == {"ready"}, f"candidates are {states}"
            return Trained(seconds, weights(store), count, len(killed))

    def _context(self, store: RunStore) -> Context:
        target = load_target("cpu-ort")
        shape = self._options.shape
        context = Context(
            model=hant.load(self._options.model),
            example_inputs=(torch.zeros(2, *shape),),
            store=store,
            target=target,
            backend=load_plugin("hant.backends", target.backend)(),
            pool=hant.pool(self._options.pool),
            data=load_data(self._options.data, shape),
        )
        context = replace(context, graph=CapturePass().run(context).graph)
        CandidatesPass().run(context)
        return context

    def _units(self, context: Context) -> int:
        """Return how many units the work is cut into."""
        pairs = [(pair, 0) for pair in missing(context, {}) if pair[1].name != "teacher"]
        return len(list(units(pairs, 1, Cut(self._options.in_flight, self._options.workers))))


def weights(store: RunStore) -> Weights:
    return {
        f"{key}:{name}": tensor
        for key, record in store.all(CandidateRecord).items()
        if record.file
        for name, tensor in store.load_tensors(record.file).items()
    }


def same(first: Weights, second: Weights) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@contextmanager
def killing(count: int, within: float, seed: int) -> Iterator[list[int]]:
    """Kill ``count`` workers that train, at random moments of the next ``within`` seconds or as soon as there are."""
    killed: list[int] = []
    over = threading.Event()
    chance = random.Random(seed)
    moments = sorted(chance.uniform(0, within) for _ in range(count))

    def hunt() -> None:
        started = time.perf_counter()
        for moment in moments:
            if over.wait(max(0.0, started + moment - time.perf_counter())):
                return
            while not (busy := workers_at_work()):
                if over.wait(0.05):
                    return
            victim = chance.choice(busy)
            victim.kill()
            killed.append(victim.pid)

    thread = threading.Thread(target=hunt)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def workers_at_work() -> list[psutil.Process]:
    """Return the workers of this process's Ray that run a unit."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "ray::_run" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default="examples/digits/teacher.pt")
    add("--data", default="digits")
    add("--shape", type=lambda text: tuple(map(int, text.split("x"))), default=(1, 32, 32))
    add("--pool", default="fast")
    add("--epochs", type=float, default=4.0)
    add("--workers", type=int, default=2)
    add("--in-flight", type=int, default=1, help="operations of a unit")
    add("--save-seconds", type=float, default=180.0, help="a unit that takes longer is cut")
    add("--share", type=float, default=0.2, help="of the units, whose workers are killed")
    add("--rounds", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the workers, who are born later
    torch.set_num_threads(1)
    print(f"{psutil.cpu_count()} cores, load {os.getloadavg()[0]:.2f} before")
    with tempfile.TemporaryDirectory() as folder:
        measure(Bench(options, Path(folder)), options)


def measure(bench: Bench, options: argparse.Namespace) -> None:
    """Print a row for every run, then what follows."""
    started = time.perf_counter()
    ray.init(num_cpus=options.workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ready = time.perf_counter()
    bench.train(options.workers, 0.05)
    print(f"Ray started in {ready - started:.1f} s, first units done {time.perf_counter() - ready:.1f} s later\n")
    print("| workers | killed | wall s | weights |\n|--:|--:|--:|---|")
    runs: dict[str, list[Trained]] = {"one": [], "many": [], "killed": []}
    reference: Weights = {}

    def take(name: str, workers: int, kills: int = 0, within: float = 0.0, seed: int = 0) -> None:
        nonlocal reference
        run = bench.train(workers, options.epochs, kills, within, seed)
        reference = reference or run.weights
        runs[name].append(run)
        words = "the same" if same(reference, run.weights) else "differ"
        print(f"| {workers} | {run.killed} | {run.seconds:.1f} | {words} |", flush=True)

    for turn in range(options.rounds):
        for name, workers in (("one", 1), ("many", options.workers))[:: 1 if turn % 2 == 0 else -1]:
            take(name, workers)
    many = statistics.median(run.seconds for run in runs["many"])
    kills = math.ceil(options.share * runs["many"][0].units)
    for turn in range(options.rounds):
        take("killed", options.workers, kills, many, turn)
    one, dead = (statistics.median(run.seconds for run in runs[name]) for name in ("one", "killed"))
    equal = all(same(reference, run.weights) for found in runs.values() for run in found)
    print(f"\n{runs['one'][0].units} units, {len(reference)} tensors; medians of {options.rounds}:")
    print(f"{options.workers} workers: {one / many:.2f} times faster, {one / many / options.workers:.1%} of ideal")
    print(f"{kills} workers killed: makespan {dead / many:.3f} of undisturbed")
    print(f"weights {'equal' if equal else 'differ'}")
    ray.shutdown()


if __name__ == "__main__":
    main()
