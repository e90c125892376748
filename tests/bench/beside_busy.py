"""How long alignment and fine-tuning take beside busy processes, against alone: a small residual network on the digits.

    python tests/bench/beside_busy.py            # in turns alone and beside two processes that do nothing but count
    python tests/bench/beside_busy.py --spin     # threads that wait spin, as without hant's setting

Each turn is a process of its own, since the library reads how to wait when it is imported.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

STAGES = ("align", "finetune")


def turn(epochs: int) -> dict[str, float]:
    """Train in this process; return the seconds of each stage."""
    import torch
    from hant.passes.finetuning.align import AlignPass
    from hant.passes.finetuning.finetune import FinetunePass
    from hant.tests.passes.finetuning.architectures import open_run, teacher

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # what comes before is not what is timed
    with tempfile.TemporaryDirectory() as folder:
        context = open_run(Path(folder) / "run", teacher("resnet"))
        torch.set_num_threads(threads)
        taken = {}
        for stage in (AlignPass(epochs=epochs), FinetunePass(epochs=epochs)):
            start = time.perf_counter()
            stage.run(context)
            taken[stage.name] = time.perf_counter() - start
        context.store.close()
    return taken


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Have so many processes count."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--busy", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--spin", action="store_true")
    parser.add_argument("--here", action="store_true", help="one turn in this process")
    given = parser.parse_args()
    if given.here:
        print(*turn(given.epochs).values())
        return
    from hant.transformer.cli.main import _share_processor

    if given.spin:
        os.environ |= {"OMP_WAIT_POLICY": "active", "KMP_BLOCKTIME": "infinite"}
    _share_processor()
    words = [sys.executable, __file__, "--here", "--epochs", str(given.epochs)]
    for _ in range(given.turns):
        found = []
        for count in (0, given.busy):
            with busy(count):
                out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            found.append([float(seconds) for seconds in out.split()])
        for stage, alone, beside in zip(STAGES, *found, strict=True):
            print(f"{stage}: {alone:.2f} s alone, {beside:.2f} s beside {given.busy}, {beside / alone:.2f} times")


if __name__ == "__main__":
    main()
