"""How well the lookup table predicts whole networks: random selections, measured.

    python tests/bench/latency_model.py --arch resnet20 --networks 100 --run runs/latency-resnet20

``--arch`` is a network of examples/cifar10, or ``timm:NAME`` with ``--input-shape 3x224x224``; weights do not matter.
Every measurement is kept: the same command goes on after a stop. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from hant import RunStore, pool, trace
from hant.backends.measuring.statistics import ratio_interval
from hant.backends.targets.load import load_target
from hant.examples.cifar10 import network
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.measure import measure_networks
from hant.passes.latency.predict import network_key, predict
from hant.passes.latency.profile import ProfilePass
from hant.passes.latency.records import LatencyModelRecord, LatencyRecord, NetworkLatencyRecord
from hant.passes.latency.table import sums_of
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.progress import Progress
from hant.transformer.files.factory import make_network
from hant.transformer.plugins import load_plugin
from scipy.stats import kendalltau
from torch import nn

TOGETHER = 5  # networks timed interleaved with the teacher


class Lines(Progress):
    """Progress as lines."""

    def log(self, message: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {message}", flush=True)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--arch", default="resnet20")
    add("--input-shape", default="3x32x32")
    add("--target", default="cpu-ort")
    add("--pool", default="fast")
    add("--networks", type=int, default=100)
    add("--run", type=Path, required=True)
    add("--seed", type=int, default=0)
    return parser.parse_args()


def network_of(arch: str) -> nn.Module:
    if ":" in arch:
        return make_network(arch, {}, pretrained=False)
    made: nn.Module = getattr(network, arch)()
    return made


def selections(context: Context, count: int, seed: int) -> list[dict[str, str]]:
    """Random networks: how many blocks are replaced is drawn first, so that all savings occur."""
    chance = random.Random(seed)
    listed = context.store.all(OperationRecord).values()
    fitting = {
        block.name: [record.operation for record in listed if record.block == block.name and record.fits]
        for block in context.teacher.replaceable
    }
    found: dict[str, dict[str, str]] = {}
    while len(found) < count:
        share = chance.random()
        choice = {name: chance.choice(ops) if chance.random() < share else "teacher" for name, ops in fitting.items()}
        if network_key(choice) != "teacher":
            found.setdefault(network_key(choice), choice)
    return list(found.values())


def measure_all(context: Context, choices: Sequence[dict[str, str]]) -> list[NetworkLatencyRecord]:
    store = context.store
    missing = [choice for choice in choices if store.get(NetworkLatencyRecord, network_key(choice)) is None]
    for start in range(0, len(missing), TOGETHER):
        some = missing[start : start + TOGETHER]
        for choice, record in zip(some, measure_networks(context, some), strict=True):
            store.put(network_key(choice), record)
        context.progress.log(f"{len(choices) - len(missing) + start + len(some)} of {len(choices)} networks measured")
    return [store.all(NetworkLatencyRecord)[network_key(choice)] for choice in choices]


def line(name: str, predicted: np.ndarray, measured: np.ndarray) -> str:
    error = predicted / measured - 1
    tau = kendalltau(predicted, measured).statistic
    return (
        f"| {name} | {100 * abs(error).mean():.2f} % | {100 * error.mean():+.2f} % | "
        f"{100 * np.quantile(abs(error), 0.95):.2f} % | {100 * (abs(error) <= 0.05).mean():.0f} % | {tau:.3f} |"
    )


def main() -> None:
    args = options()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    model = network_of(args.arch).eval()
    inputs = (torch.randn(1, *map(int, args.input_shape.split("x"))),)
    target = load_target(args.target)
    backend = load_plugin("hant.backends", target.backend)()
    with RunStore(args.run) as store:
        context = Context(
            model=model,
            example_inputs=inputs,
            store=store,
            target=target,
            backend=backend,
            pool=pool(args.pool),
            graph=trace(model, inputs),
            seed=args.seed,
            progress=Lines(),
        )
        CandidatesPass().run(context)
        start, rows = time.perf_counter(), store.count(LatencyRecord.kind)
        ProfilePass().run(context)
        measured_rows = store.count(LatencyRecord.kind) - rows
        seconds = time.perf_counter() - start
        records = measure_all(context, selections(context, args.networks, args.seed))
        report(context, args, records)
        if measured_rows:
            print(f"\n{measured_rows} rows of the table in {seconds:.0f} s")


def report(context: Context, args: argparse.Namespace, records: Sequence[NetworkLatencyRecord]) -> None:
    store = context.store
    teacher = store.get(NetworkLatencyRecord, "teacher")
    assert teacher is not None
    model = store.get(LatencyModelRecord, "model")
    assert model is not None, "profile fits it"
    ratio = np.array([ratio_interval(record.timing, record.teacher).value for record in records])
    choices = [record.selection for record in records]
    rows = {key: row.timing.ms for key, row in store.all(LatencyRecord).items()}
    sums = sums_of(store, rows, choices) / teacher.timing.ms
    full = sums_of(store, rows, [{}])[0] / teacher.timing.ms
    predicted = np.array([predict(store, choice) for choice in choices]) / model.teacher_ms
    print(f"\n{args.arch}, {args.target}, {len(records)} random selections")
    print(f"{ratio.min():.2f} to {ratio.max():.2f} of the teacher's latency")
    print(f"teacher {teacher.timing.ms:.4f} ms, table's sum for it {full * teacher.timing.ms:.4f} ms", end=", ")
    print(f"{model.networks - 1} whole networks measured, slope {model.slope:.3f}\n")
    print("| prediction | mean abs error | bias | 95 % within | share within 5 % | Kendall tau |")
    print("|---|---:|---:|---:|---:|---:|")
    print(line("table's sum", sums, ratio))
    print(line("through the teacher", 1 - (full - sums), ratio))
    print(line("put right by whole networks", predicted, ratio))


if __name__ == "__main__":
    main()
