"""What a short alignment makes of the networks of several searches at one budget.

    python tests/bench/search_aligned.py --run runs/resnet56 --choices docs/results/resnet56.jsonl

The run is pretrained (``hant-opt pretrain``); it is copied, nothing is written into it. Limits are the budget's share
of the lookup table's sum, so nothing is measured. ``--choices`` names networks that other searches have found: lines of
JSON with ``step`` and ``choice``. Each network is aligned for ``--steps`` with a whole schedule, on the same images,
and judged on test images. Rows are appended to ``--out`` as they come; the same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hant import Context
from hant.passes.finetuning.align import AlignPass
from hant.passes.finetuning.examine import Parts
from hant.passes.finetuning.start import student
from hant.passes.searching.contest import Contest
from hant.passes.searching.linear import Linear, linear_search
from hant.passes.selecting.weightings import stages, weighted
from hant.tests.bench.results_measure import accuracy
from hant.tests.bench.search_cifar10 import copied, make_context, run_parser
from hant.tests.bench.search_engines import contest_of
from hant.transformer.data.splits import split, take

Choice = dict[str, str]


def options() -> argparse.Namespace:
    parser = run_parser(__doc__)
    parser.set_defaults(images=50_000)
    add = parser.add_argument
    add("--budget", default="0.45")
    add("--steps", type=int, default=200)
    add("--test-images", type=int, default=4000)
    add("--judges", type=int, default=1000, help="held-out images that say which state is kept")
    add("--choices", type=Path, help="lines of JSON with networks that were found elsewhere")
    add("--only", default="", help="names of rows, with commas")
    add("--out", type=Path, default=Path("runs/aligned.jsonl"))
    return parser.parse_args()


def searches(context: Context, contest: Contest, args: argparse.Namespace) -> dict[str, Callable[[], Choice]]:
    """Return what finds each network, by its name."""
    table, stage = contest.table, stages(context.teacher)

    def program(power: float = 1.0, fall: float | None = None, without: tuple[str, ...] = ()) -> Choice:
        rows = [row**power for row in table.loss]
        loss = weighted(rows, stage) if fall is None else weighted(rows, [0] * len(stage))
        barred = [np.array([any(part in name for part in without) for name in names]) for names in table.operations]
        return table.choice(contest.best([np.where(bar, 1e3, row) for bar, row in zip(barred, loss, strict=True)]))

    found: dict[str, Callable[[], Choice]] = {
        "errors": program,
        "errors, all stages alike": partial(program, fall=1.0),
        "errors to the power of 0.5": partial(program, power=0.5),
        "errors, large kernels only": partial(program, without=("1x1", "identity", "efn_3x3_e1")),
        "skipping": partial(program, without=("stack", "bottle", "efn", "1x1")),
        "linear": lambda: linear_search(context, contest, args.budget, Linear()).choices[0],
    }
    if args.choices is not None:
        known = [json.loads(line) for line in args.choices.read_text().splitlines()]
        found |= {entry["step"]: partial(dict, entry["choice"]) for entry in known if entry.get("choice")}
    return found


def aligned(context: Context, choice: Choice, args: argparse.Namespace) -> Mapping[str, Any]:
    """Return accuracy before and after, and the CPU seconds of it."""
    started = time.process_time()
    images = split(context.dataset, context.seed)
    parts = Parts(images.fit, take(images.held_out, args.judges))
    align = AlignPass()
    recipe = align.recipe(context, "", parts)
    epochs = -(-args.steps // recipe.steps)
    recipe = replace(recipe, epochs=epochs, steps=-(-args.steps // epochs))
    graph = student(context, choice)
    before = accuracy(context, graph.network)
    state, _ = align.train(context, graph, choice, recipe, parts, durable=False)
    graph.network.load_state_dict(state.best)
    after = accuracy(context, graph.network)
    return {"before": before, "after": after, "cpu_seconds": round(time.process_time() - started, 1)}


def main() -> None:
    args = options()
    torch.set_num_threads(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(row["budget"], row["step"], row["steps"]) for row in rows}
    with copied(args.run, partial(make_context, args)) as context:
        context = replace(context, data=replace(context.dataset, test=take(context.dataset.test, args.test_images)))
        contest = contest_of(context, args.budget)
        print("| search | share of table | error | before | aligned | CPU s |\n|---|---:|---:|---:|---:|---:|")
        for name, find in searches(context, contest, args).items():
            if (args.budget, name, args.steps) in done or (args.only and name not in args.only.split(",")):
                continue
            choice = find()
            indices = contest.table.indices(choice)
            loss = weighted(contest.table.loss, stages(context.teacher))
            error = sum(float(row[i]) for row, i in zip(loss, indices, strict=True))
            share = contest.table.total("ms", choice) / contest.table.total("ms", contest.table.teacher())
            row = {"budget": args.budget, "step": name, "steps": args.steps, "share": share, "error": error}
            row |= {**aligned(context, choice, args), "choice": choice}
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            cells = (f"{share:.3f}", f"{error:.3f}", f"{row['before']:.2f}", f"{row['after']:.2f}", row["cpu_seconds"])
            print("|", " | ".join(map(str, (name, *cells))), "|", flush=True)


if __name__ == "__main__":
    main()
