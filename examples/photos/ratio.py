"""Print the latency of each further network as a share of the first one's: ``python ratio.py A.pt B.pt [C.pt ...]``.

The networks run on ``--target`` in turn, round by round, so that a busy machine slows all alike.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import hant
import torch
from hant.transformer.plugins import load_plugin
from hant.transformer.rewrite.deploy import deploy


def ratios(networks: list[Path], target: hant.Target, shape: tuple[int, ...]) -> list[float]:
    """Return the latencies of all but the first network, as shares of the first one's."""
    backend: hant.Backend = load_plugin("hant.backends", target.backend)()
    images = torch.randn(target.batch_size, *shape)
    with tempfile.TemporaryDirectory() as folder:
        runners = []
        for index, file in enumerate(networks):
            path = Path(folder) / f"{index}.lowered"
            backend.lower(deploy(hant.load(file).eval()), (images,), target, path)
            runners.append(backend.load(path, target))
        first, *others = backend.time(runners, [[images.numpy()]] * len(runners), target)
    return [timing.ms / first.ms for timing in others]


def main() -> None:
    """Read the arguments, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", type=Path)
    parser.add_argument("--target", default="cpu-ort")
    parser.add_argument("--resolution", type=int, default=160)
    options = parser.parse_args()
    shape = (3, options.resolution, options.resolution)
    print(" ".join(f"{ratio:.4f}" for ratio in ratios(options.networks, hant.load_target(options.target), shape)))


if __name__ == "__main__":
    main()
