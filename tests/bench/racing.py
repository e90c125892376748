"""How many images the race of ``rank`` saves: 100 selections on the same images, by each kind of race.

    python tests/bench/racing.py --run runs/search-resnet56 --images 4000

The run is one of ``search_cifar10.py``, scored; it is copied, the copy's evaluations are deleted.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import hant
import torch
from hant import Context
from hant.passes.ranking.judge import Judge, Protocol
from hant.passes.ranking.race import finishing_order
from hant.passes.ranking.rank import RACES
from hant.passes.ranking.records import EvaluationRecord
from hant.passes.searching.records import BaselineRecord
from hant.passes.selecting.table import search_table
from hant.tests.bench.search_cifar10 import copied, make_context, run_parser


def options() -> argparse.Namespace:
    parser = run_parser(__doc__)
    add = parser.add_argument
    add("--batch", type=int, default=64)
    add("--budgets", default="0.45,0.75", help="of the run's")
    add("--solutions", type=int, default=100)
    return parser.parse_args()


def race(context: Context, choices: list[dict[str, str]], batch: int, doubt: float | None, off: bool) -> str:
    """Return winner, share of the images that were run, and CPU seconds, as cells of a table."""
    context.store.delete(EvaluationRecord)
    started = time.process_time()
    judge = Judge(context, Protocol(batch_size=batch))
    entries = [judge.entry(index, choice, "loss", doubt) for index, choice in enumerate(choices)]
    if off:
        for entry in entries:
            entry.finish()
    winner = next(finishing_order(entries))
    share = sum(entry.totals.samples for entry in entries) / (len(entries) * judge.total)
    return f"{winner.index} ({winner.totals.mean('loss'):.4f}) | {share:.0%} | {time.process_time() - started:.0f}"


def main() -> None:
    args = options()
    torch.set_num_threads(1)
    with copied(args.run, partial(make_context, args)) as context:
        table = search_table(context.store, context.teacher)
        print("| budget | race | winner (loss) | images run | CPU s |\n|---:|---|---|---:|---:|")
        for key, record in context.store.all(BaselineRecord).items():
            if record.method != "ilp-1" or record.budget not in args.budgets.split(","):
                continue
            problem = hant.SelectionProblem(
                loss=table.loss,
                cost={name: table.cost[name] for name in record.limits},
                limits=dict(record.limits),
                solutions=args.solutions,
                max_overlap=0.7,
            )
            choices = [table.choice(selection.choice) for selection in hant.solve(problem)]
            for kind, doubt in RACES.items():
                cells = race(context, choices, args.batch, doubt, kind == "off")
                print(f"| {key.partition('/')[2]} | {kind} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
