"""How often the stopwatch is wrong: a network against itself, and against itself made slower by a known share.

    python tests/bench/latency_stopwatch.py --comparisons 1000

Keep another process busy on the second core (``--busy`` starts one) to see what a shared machine does.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hant.backends.measuring.statistics import ratio_interval
from hant.backends.measuring.stopwatch import interleave
from hant.backends.onnxruntime.backend import OnnxRuntimeBackend
from hant.backends.targets.load import load_target
from hant.examples.cifar10 import network


def busy() -> None:
    while True:
        np.linalg.svd(np.random.default_rng(0).normal(size=(300, 300)))


def network_call(folder: Path) -> Callable[[], object]:
    backend, target = OnnxRuntimeBackend(), load_target("cpu-ort")
    image = torch.randn(1, 3, 32, 32)
    backend.lower(network.resnet20().eval(), [image], target, folder / "network.onnx")
    return backend.load(folder / "network.onnx", target).prepare(image.numpy())


def slower(call: Callable[[], object], share: float, ms: float) -> Callable[[], None]:
    """Do the call, then run the processor for a further share of its time."""
    wait = share * ms / 1000

    def run() -> None:
        call()
        end = time.thread_time() + wait
        while time.thread_time() < end:
            pass

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=1000)
    parser.add_argument("--slowdown", type=float, default=0.03)
    parser.add_argument("--busy", action="store_true", help="keep the second core busy")
    args = parser.parse_args()
    torch.set_num_threads(1)
    neighbour = multiprocessing.Process(target=busy, daemon=True)
    if args.busy:
        neighbour.start()
    protocol = load_target("cpu-ort").protocol
    with tempfile.TemporaryDirectory() as folder:
        call = network_call(Path(folder))
        (alone,) = interleave([call], protocol)
        print(
            f"network {alone.ms:.3f} ms ({alone.low:.3f} to {alone.high:.3f}), converged {alone.converged}", flush=True
        )
        cases: tuple[tuple[str, Callable[[], object], Callable[[float, float], bool]], ...] = (
            ("itself", call, lambda low, high: low <= 1 <= high),
            (f"{100 * args.slowdown:g} % slower", slower(call, args.slowdown, alone.ms), lambda low, _: low > 1),
        )
        for name, other, right in cases:
            good, rounds, converged, start = 0, [], 0, time.perf_counter()
            for seed in range(args.comparisons):
                first, second = interleave([call, other], protocol, seed)
                interval = ratio_interval(second, first, protocol.confidence)
                good += right(interval.low, interval.high)
                rounds.append(len(first.samples))
                converged += first.converged
            seconds = (time.perf_counter() - start) / args.comparisons
            print(
                f"{name}: right {good} of {args.comparisons}, {np.median(rounds):.0f} rounds, "
                f"{converged} converged, {seconds:.2f} s each",
                flush=True,
            )
    if args.busy:
        neighbour.terminate()


if __name__ == "__main__":
    main()
