"""What a start computed from the teacher's features is worth (docs/pretraining.md).

    python tests/bench/pretraining_starts.py [--steps 76] [--blocks 2]

For each family: held-out error as built, after a quarter of the steps, after all of them; and of the computed start
alone and with a quarter of the steps behind it. The start is found by ridge regression: batch norms get the statistics
of the data, and the last convolution is solved for, whatever random layers come before it. Behind a ReLU, where the
teacher's output is 0 its value before the ReLU is unknown: it is taken as what the candidate gives, if that is below 0.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from typing import Any

import hant
import torch
from hant.op_library.pools import pool
from hant.passes.candidates.build import build_candidate
from hant.passes.pretraining.engine import measure, train, variances
from hant.passes.pretraining.recipe import Recipe, resolve
from hant.passes.pretraining.trainer import Trainer
from hant.transformer.data.images import batches, size
from hant.transformer.data.sources import load_data
from hant.transformer.data.splits import split, take
from hant.transformer.ir.block import Block
from hant.transformer.ir.graph import Graph
from torch import Tensor, nn

CPU = torch.device("cpu")
OPERATIONS = "cb_res_1x1,cb_res_3x3,repvgg_3x3,dbb_1x1,conv_cs_3x3,cb_stack_3x3_ex0.5,cb_bottle_3x3_ex0.5"
OPERATIONS += ",efn_3x3_e3_se1.00,efnv2_3x3_e1_se1.00"
MOST_ROWS = 8192
RIDGE = 1e-3
ROUNDS = 3


class Seen:
    """What the layers of a candidate saw in one forward pass."""

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        self.inputs: dict[nn.Module, Tensor] = {}
        self.outputs: dict[nn.Module, Tensor] = {}
        self.order: list[nn.Module] = []
        leaves = [layer for layer in module.modules() if not list(layer.children())]
        handles = [layer.register_forward_hook(self._note) for layer in leaves]
        with torch.no_grad():
            self.output: Tensor = module(x)
        for handle in handles:
            handle.remove()

    def _note(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self.inputs[layer], self.outputs[layer] = args[0], output
        self.order.append(layer)


def computed_start(module: nn.Module, x: Tensor, y: Tensor) -> None:
    """Solve the last convolution of ``module`` for (x, y) of a block."""
    calibrate(module, x)
    module.eval()
    for _ in range(ROUNDS):
        seen = Seen(module, x)
        clamped = isinstance(seen.order[-1], nn.ReLU)
        before = seen.inputs[seen.order[-1]] if clamped else seen.output
        at = max(i for i, layer in enumerate(seen.order) if isinstance(layer, nn.BatchNorm2d))
        norm, conv = seen.order[at], seen.order[at - 1]
        assert isinstance(norm, nn.BatchNorm2d)
        assert isinstance(conv, nn.Conv2d)
        goal = torch.where(y > 0, y, before.clamp_max(0)) if clamped else y
        solve(conv, norm, seen.inputs[conv], goal - (before - seen.outputs[norm]))
        if not clamped:
            break


def calibrate(module: nn.Module, x: Tensor) -> None:
    """Give every batch norm the statistics of the data."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    module.train()
    with torch.no_grad():
        for start in range(0, len(x), 64):
            module(x[start : start + 64])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def solve(conv: nn.Conv2d, norm: nn.BatchNorm2d, h: Tensor, goal: Tensor) -> None:
    """Set convolution and norm to the ridge regression of ``goal`` (N, C', H', W') on ``h`` (N, C, H, W)."""
    positions = goal.shape[0] * goal.shape[2] * goal.shape[3]
    chosen = torch.randperm(positions, generator=torch.Generator().manual_seed(0))[:MOST_ROWS]
    images = max(1, min(len(h), math.ceil(4 * MOST_ROWS / (goal.shape[2] * goal.shape[3]))))
    chosen = chosen[chosen < images * goal.shape[2] * goal.shape[3]]
    padding = (conv.kernel_size[0] // 2, conv.kernel_size[1] // 2)
    columns = nn.functional.unfold(h[:images], conv.kernel_size, padding=padding, stride=conv.stride)
    rows = columns.transpose(1, 2).flatten(0, 1)[chosen].double()
    values = goal[:images].flatten(2).transpose(1, 2).flatten(0, 1)[chosen].double()
    weights, offsets = [], []
    for part, wanted in zip(rows.chunk(conv.groups, 1), values.chunk(conv.groups, 1), strict=True):
        mean, centre = part.mean(0), wanted.mean(0)
        a, b = part - mean, wanted - centre
        gram = a.T @ a
        gram.diagonal().add_(RIDGE * gram.diagonal().mean())
        weight = torch.linalg.solve(gram, a.T @ b).T
        weights.append(weight)
        offsets.append(centre - weight @ mean)
    found = torch.cat(weights)
    spread = torch.cat([part @ w.T for part, w in zip(rows.chunk(conv.groups, 1), weights, strict=True)], 1)
    scale = conv.weight.flatten(1).norm(dim=1).double() / found.norm(dim=1).clamp_min(1e-12)
    conv.weight.copy_((found * scale[:, None]).view_as(conv.weight))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(spread.mean(0) * scale)
    norm.running_var.copy_(spread.var(0) * scale**2)
    norm.weight.copy_((spread.var(0) + norm.eps / scale**2).sqrt())
    norm.bias.copy_(spread.mean(0) + torch.cat(offsets))


def features(graph: Graph, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return input and output of every block."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def observe(block: Block, x: Tensor, y: Tensor) -> None:
        found[block.name] = (x, y)

    graph.module.eval()
    with torch.no_grad(), graph.observe(observe):
        graph.module(images)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="examples/digits/teacher.pt")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--shape", type=lambda text: tuple(map(int, text.split("x"))), default=(1, 32, 32))
    parser.add_argument("--operations", default=OPERATIONS)
    parser.add_argument("--steps", type=int, default=76)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--images", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data(options.data, options.shape)
    graph = hant.trace(hant.load(options.model), torch.zeros(2, *options.shape))
    parts = split(data, 0)
    base = replace(resolve(size(parts.fit), 0), batch_size=16, steps=options.steps)
    quarter = replace(base, steps=options.steps // 4)
    scale = variances(graph, take(parts.fit, 512), 64, CPU)
    every = graph.replaceable
    count = min(options.blocks, len(every))
    blocks = [every[round((i + 0.5) / count * len(every) - 0.5)] for i in range(count)]
    known = features(graph, next(iter(batches(parts.fit, options.images)))[0])

    def trainers(recipe: Recipe, *, computed: bool) -> list[Trainer]:
        made = []
        for block in blocks:
            for spec in pool(options.operations):
                module = build_candidate(block, spec, 0)
                if computed:
                    computed_start(module, *known[block.name])
                made.append(Trainer(block.name, spec.name, module, recipe))
        return made

    def errors(recipe: Recipe, steps: int, *, computed: bool) -> dict[tuple[str, str], float]:
        started = time.process_time()
        ready = trainers(recipe, computed=computed)
        made = time.process_time() - started
        train(graph, ready, recipe, parts.fit, scale, CPU, workers=1, stop=steps)
        found = measure(graph, ready, take(parts.held_out, 1000), 64, CPU)
        print(f"# {'computed' if computed else 'built'}, {steps} steps: {made:.1f} s to make,", end=" ")
        print(f"{time.process_time() - started - made:.1f} s to train, CPU time", flush=True)
        return found

    full = errors(base, base.steps, computed=False)
    columns = [
        ("built, 1/4", errors(quarter, quarter.steps, computed=False)),
        ("computed, 0", errors(quarter, 0, computed=True)),
        ("computed, 1/4", errors(quarter, quarter.steps, computed=True)),
    ]
    print("block operation | built, all |", " | ".join(name for name, _ in columns))
    for key in full:
        print(*key, f"| {full[key]:.4f} |", " | ".join(f"{found[key]:.4f}" for _, found in columns))
    for name, found in columns:
        ratios = {operation: math.exp(sum(math.log(found[k] / full[k]) for k in full if k[1] == operation) / count)
                  for operation in dict.fromkeys(k[1] for k in full)}  # fmt: skip
        print(f"{name}: error over that of all steps:", ", ".join(f"{o} {r:.2f}" for o, r in ratios.items()))


if __name__ == "__main__":
    main()
