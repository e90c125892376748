"""Train the teacher of the digits example: ``python examples/digits/train.py [FILE]``.

One CPU core needs two to three minutes. The result is a self-describing checkpoint: ``hant.load`` reads it without
running any of its code.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import hant
import torch
import torch.nn.functional as F
from hant.transformer.data.images import batches, shuffled, size
from hant.transformer.data.sources import load_data
from network import digits_net
from torch import nn


def train(epochs: int, seed: int) -> nn.Module:
    """Return the network trained on the training part of ``digits``."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # the same bits on any number of cores
    data = load_data("digits")
    network: nn.Module = digits_net()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9, nesterov=True, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * (size(data.train) // 64)
    step = 0
    for epoch in range(epochs):
        for images, labels in batches(data.train, 64, shuffled(size(data.train), seed, epoch), drop_last=True):
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * min(1.0, (step + 1) / 40) * 0.5 * (1 + math.cos(math.pi * step / steps))
            loss = F.cross_entropy(network(data.augment(images, generator)), labels, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
        print(f"epoch {epoch + 1}/{epochs}: loss {loss.item():.3f}, test {accuracy(network):.2f} %")
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module) -> float:
    """Return top-1 on the test part, in percent."""
    network.eval()
    right = sum(int((network(x).argmax(1) == y).sum()) for x, y in batches(load_data("digits").test, 64))
    network.train()
    return 100 * right / size(load_data("digits").test)


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=Path(__file__).with_name("teacher.pt"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    network = train(options.epochs, options.seed)
    hant.save(network, options.file, torch.zeros(1, 1, 32, 32))


if __name__ == "__main__":
    main()
