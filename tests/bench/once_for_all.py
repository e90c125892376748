"""Studies of once-for-all training: schedules at equal cost, shared against alone, gradients, what a step costs.

    python tests/bench/once_for_all.py --study nothing --seeds 0,1,2 --out docs/results/once-for-all.jsonl
    python tests/bench/once_for_all.py --study together --network cifar10-resnet20 --passes 6000 --out ofa.jsonl
    python tests/bench/once_for_all.py --draw figures --out ofa.jsonl

========== ========================================================================================================
nothing    from nothing: delays, epsilon and teachers of DepS, BigNAS, OFA's order, RSS (the paper's 5a, 7a, 7b)
teacher    from a trained teacher: ours, DepS, BigNAS, RSS
together   six students from one training, at equal and at half the cost of six trainings one by one
gradients  DepS where its students begin: length and direction of the summed gradient, dip of the full network (3, 4)
cuts       students cut without any training out of a full network that is 30 to 100 % trained (2a)
step       time of a step over that of its passes apart; CPU seconds of 2, 4 and 8 students
passes     cost of the schedules of DepS, OFA and BigNAS, counted (1)
========== ========================================================================================================

Students are slices of the network's own blocks; their batch norms are estimated anew; accuracy is that on the test
images. A row is appended as soon as it is measured; rows that are there are not measured again. ``slices.py`` is the
study of slices without any training.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from hant.tests.bench.once_for_all_figures import draw
from hant.tests.bench.once_for_all_studies import STUDIES, Job
from hant.tests.bench.once_for_all_training import Setting
from hant.tests.bench.search_cifar10 import ROOT

Row = dict[str, Any]
_KEY = ("study", "network", "variant", "seed", "passes")


def rows_of(path: Path) -> list[Row]:
    """Return the rows that were measured before."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def waiting(job: Job, seeds: list[int], known: list[Row]) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """Yield the rows that are not measured yet, a first seed of each before a second of any."""
    done = {tuple(row[name] for name in _KEY) for row in known}
    for seed in seeds:
        for variant, measure in STUDIES[job.study](job, seed):
            head = dict(zip(_KEY, (job.study, job.setting.network, variant, seed, job.passes), strict=True))
            if tuple(head.values()) not in done:
                yield head, measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="lines of JSON to append to")
    add("--study", choices=tuple(STUDIES), default="nothing")
    add("--network", default="digits", help="digits, or a pretrained one: cifar10-resnet20")
    add("--data", type=Path, default=Path(os.environ.get("HANT_DATA", ROOT.parent / "shared" / "data")))
    add("--images", type=int, default=50_000, help="training images of CIFAR-10")
    add("--seeds", default="0")
    add("--passes", type=float, default=400, help="cost of each training, in passes of the full network over a batch")
    add("--runs", type=Path, default=Path("runs/once-for-all"), help="folder for what is made on the way")
    add("--only", default="", help="variants to measure, with semicolons; all if left out")
    add("--draw", type=Path, help="measure nothing, draw what is known into this folder")
    options = parser.parse_args()
    known = rows_of(options.out)
    if options.draw:
        draw(known, options.draw)
        return
    torch.set_num_threads(1)
    setting = Setting.of(options.network, options.data, options.images)
    job = Job(options.study, setting, options.passes, options.runs)
    only = [name.strip() for name in options.only.split(";") if name.strip()]
    for head, measure in waiting(job, [int(seed) for seed in options.seeds.split(",")], known):
        if not only or head["variant"] in only:
            row = head | measure()
            with options.out.open("a") as out:
                out.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
