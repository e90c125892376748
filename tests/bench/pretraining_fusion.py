"""Is it worth while to fuse candidates of one shape? A step of several layers, one by one and fused, in turns.

    python tests/bench/pretraining_fusion.py

On feature maps as a CIFAR-10 ResNet-20 has them, batches of 64, one thread, channels-last. All candidates of a block
have the same input, so their first 1x1 convolutions are one convolution with the outputs of all; depthwise ones become
one with the channels of all, which have to be concatenated before and split after. Forward, batch norm, ReLU and
backward, CPU seconds. This is the best case: what follows in a candidate is not fused.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

SHAPES = ((16, 32), (32, 16), (64, 8))
"""Channels, and height and width."""
COUNT = 4
TURNS = 15
Step = Callable[[], None]


def layer(inputs: int, outputs: int, kernel: int, groups: int = 1) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def pointwise(x: Tensor, width: int) -> tuple[Step, Step]:
    """Return a step of ``COUNT`` layers one by one, and one of all together."""
    channels = x.shape[1]
    apart = [layer(channels, width, 1) for _ in range(COUNT)]
    together = layer(channels, COUNT * width, 1)
    gradient = torch.randn_like(together(x)).contiguous(memory_format=torch.channels_last)
    parts = [part.contiguous(memory_format=torch.channels_last) for part in gradient.chunk(COUNT, 1)]

    def one_by_one() -> None:
        for module, part in zip(apart, parts, strict=True):
            module(x).backward(part)

    def fused() -> None:
        together(x).backward(gradient)

    return one_by_one, fused


def depthwise(x: Tensor, width: int) -> tuple[Step, Step]:
    maps = [
        torch.randn(x.shape[0], width, *x.shape[2:]).contiguous(memory_format=torch.channels_last).requires_grad_()
        for _ in range(COUNT)
    ]
    apart = [layer(width, width, 3, width) for _ in maps]
    together = layer(COUNT * width, COUNT * width, 3, COUNT * width)
    parts = [torch.randn_like(each) for each in maps]

    def one_by_one() -> None:
        for module, each, part in zip(apart, maps, parts, strict=True):
            module(each).backward(part)

    def fused() -> None:
        torch.autograd.backward(together(torch.cat(maps, 1)).chunk(COUNT, 1), parts)

    return one_by_one, fused


def main() -> None:
    torch.set_num_threads(1)
    print(f"| layers ({COUNT} of them) | input | one by one, ms | fused, ms | ratio |\n|---|---|--:|--:|--:|")
    for channels, side in SHAPES:
        x = torch.randn(64, channels, side, side).contiguous(memory_format=torch.channels_last)
        for name, make, width in (
            ("1x1", pointwise, channels // 4),
            ("1x1", pointwise, channels),
            ("1x1", pointwise, 3 * channels),
            ("3x3 depthwise", depthwise, 3 * channels),
        ):
            sides = make(x, width)
            seconds: tuple[list[float], list[float]] = ([], [])
            for turn in range(TURNS + 2):
                for index in (0, 1) if turn % 2 else (1, 0):
                    started = time.process_time()
                    sides[index]()
                    if turn >= 2:
                        seconds[index].append(time.process_time() - started)
            apart, fused = (1e3 * statistics.median(found) for found in seconds)
            cells = f"{channels} x {side} x {side} | {apart:.1f} | {fused:.1f} | {apart / fused:.2f}"
            print(f"| {name} to {width} | {cells} |")


if __name__ == "__main__":
    main()
