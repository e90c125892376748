"""How a candidate's end and start change what it learns: error of the teacher's block after a short training.

Each operation is trained for a few hundred steps of SGD towards a teacher's block and compared on images that it has
not seen, with and without the ReLU that ends the block, and (repvgg, dbb) with the input branch as it is or normed.

    python tests/bench/operations_start.py --model examples/digits/teacher.pt --data digits
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import hant
import torch
from hant.op_library.activations import activation, clamps, final
from hant.op_library.op_spec import OpSpec
from hant.op_library.reparameterise import Branches
from hant.transformer.data.sources import load_data
from torch import Tensor, nn

POOL = "cb_stack_3x3_ex0.5,cb_bottle_3x3_ex0.5,cb_res_3x3,efn_3x3_e3_se1.00,efnv2_3x3_e1_se1.00,conv_cs_3x3,"
POOL += "repvgg_3x3,dbb_1x1,vit_d1_w64_h4,bot_trans_e0.5,lambda_e0.5"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="examples/digits/teacher.pt")
    parser.add_argument("--arch")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--pool", default=POOL)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=190)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = load_data(options.data).train
    x = torch.stack([images[index][0] for index in range(options.images)])
    graph = hant.trace(hant.load(options.model, arch=options.arch).eval(), (x[:2],))
    features = observe(graph, x)
    blocks = graph.replaceable
    chosen = [blocks[len(blocks) * part // 4] for part in (1, 2, 3)]
    print("| block | operation | as built | behind ReLU | normed input | normed input behind ReLU |")
    print("|---|---|--:|--:|--:|--:|")
    for block in chosen:
        end = final(block.module)
        for spec in hant.pool(options.pool):
            if spec.unfit(block.input, block.output) is None:
                cells = [f"{error:.3f}" for error in errors(spec, block, end, features[block.name], options.steps)]
                print("|", " | ".join([block.name, spec.name, *cells, *[""] * (4 - len(cells))]), "|", flush=True)


def observe(graph: Any, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {}
    with torch.no_grad(), graph.observe(lambda block, a, b: parts.setdefault(block.name, []).append((a, b))):
        for batch in x.split(200):  # type: ignore[no-untyped-call]
            graph.module(batch)
    return {name: (torch.cat([a for a, _ in part]), torch.cat([b for _, b in part])) for name, part in parts.items()}


def errors(spec: OpSpec, block: Any, end: str | None, data: tuple[Tensor, Tensor], steps: int) -> list[float]:
    variants: list[Callable[[nn.Module], nn.Module]] = [lambda module: module]
    if clamps(end):
        variants.append(lambda module: nn.Sequential(module, activation(str(end))))
    if spec.family in ("repvgg", "dbb") and block.input == block.output:
        variants += [partial(behind_norm, block.input.channels, variant) for variant in variants]
    found = []
    for variant in variants:
        torch.manual_seed(0)
        found.append(train(variant(spec.build(block.input, block.output)), *data, steps))
    return found


def behind_norm(channels: int, variant: Callable[[nn.Module], nn.Module], module: nn.Module) -> nn.Module:
    return variant(normed(module, channels))


def normed(module: nn.Module, channels: int) -> nn.Module:
    """Give the input's branch a batch norm and all branches gain 1, as RepVGG has them."""
    assert isinstance(module, Branches)
    module.branches[-1] = nn.Sequential(nn.BatchNorm2d(channels))
    for branch in module.branches:
        *_, norm = branch.children()
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.ones_(norm.weight)
    return module


def train(module: nn.Module, x: Tensor, y: Tensor, steps: int) -> float:
    """Return MSE over variance on the last fifth of the images, trained on the others."""
    known = len(x) * 4 // 5
    variance = y[:known].var()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    draws = iter(lambda: torch.randint(0, known, (32,), generator=generator), None)
    for step, chosen in enumerate(islice(draws, steps)):
        rate = 0.1 * min(1.0, (step + 1) / (0.05 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = (module(x[chosen]) - y[chosen]).square().mean() / variance
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    module.eval()
    with torch.no_grad():
        return float((module(x[known:]) - y[known:]).square().mean() / y[known:].var())


if __name__ == "__main__":
    main()
