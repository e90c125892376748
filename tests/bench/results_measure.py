"""How the benches of results measure a network: latency beside the teacher's, accuracy in the target's runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from hant import Timing
from hant.backends.measuring.statistics import ratio_interval
from hant.passes.latency.workbench import Workbench, network_inputs
from hant.transformer.contracts.context import Context
from hant.transformer.data.images import batches, size
from torch import nn

Facts = dict[str, Any]
_BATCH = 250


def timed(context: Context, networks: Sequence[nn.Module], rounds: int | None = None) -> tuple[Timing, ...]:
    """Return the timings of the teacher and ``networks``, interleaved, by the target's protocol."""
    bench = Workbench(context)
    inputs = network_inputs(context)
    runners = bench.lower([network.eval() for network in networks], [inputs] * len(networks))
    opened = []
    for runner in runners:
        if isinstance(runner, str):
            raise SystemExit(f"a network cannot be lowered: {runner}")
        opened.append(runner)
    timings = bench.time(opened, [inputs] * len(opened), rounds)
    context.store.clear_scratch()
    return timings


def compared(name: str, timing: Timing, reference: Timing) -> Facts:
    """Return the ratio of two interleaved timings with its 99 % interval."""
    ratio = ratio_interval(timing, reference)
    return {
        f"ratio_{name}": ratio.value,
        f"interval_{name}": [ratio.low, ratio.high],
        f"ms_{name}": [timing.ms, reference.ms],
    }


def accuracy(context: Context, network: nn.Module) -> float:
    """Return the top-1 accuracy (percent) on all test images, in the target's runtime."""
    path = context.store.scratch / "judged.lowered"
    path.parent.mkdir(parents=True, exist_ok=True)
    context.backend.lower(network.eval(), context.example_inputs, context.target, path, dynamic_batch=True)
    runner = context.backend.load(path, context.target)
    test = context.dataset.test
    right = sum(
        int((torch.from_numpy(runner(images.numpy())[0]).argmax(1) == labels).sum())
        for images, labels in batches(test, _BATCH)
    )
    path.unlink()
    return 100 * right / size(test)


def interval(facts: Facts, name: str) -> str:
    low, high = facts[f"interval_{name}"]
    return f"{facts[f'ratio_{name}']:.3f} ({low:.3f} to {high:.3f})"
