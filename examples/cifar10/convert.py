"""Turn pretrained weights into a self-describing checkpoint: ``python convert.py WEIGHTS.safetensors TEACHER.pt``.

The architecture is read from the file's name, such as ``cifar10-resnet20.safetensors``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import hant
import network
import torch
from safetensors.torch import load_file


def convert(weights: Path, output: Path) -> None:
    """Write the network with ``weights`` to ``output``; ``hant.load`` reads it without running any of its code."""
    made = getattr(network, weights.stem.rpartition("-")[2])()
    found = made.load_state_dict(load_file(weights), strict=False)
    lost = [name for name in found.missing_keys if not name.endswith("num_batches_tracked")]
    if lost or found.unexpected_keys:
        raise SystemExit(f"{weights} does not fit: missing {lost}, unexpected {found.unexpected_keys}")
    hant.save(made.eval(), output, torch.zeros(1, 3, 32, 32))


def main() -> None:
    """Read the arguments and convert."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    convert(options.weights, options.output)


if __name__ == "__main__":
    main()
