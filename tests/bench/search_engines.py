"""The engines of the search at equal CPU seconds, judged on images that none of them has seen.

    python tests/bench/search_engines.py --run runs/resnet56 --budgets 0.3,0.45,0.6,0.75 --seeds 0,1,2

The run is pretrained (``hant-opt pretrain``); it is copied, nothing is written into it. Limits are the budget's share
of the lookup table's sum, so nothing is measured. Of the held-out images every engine searches on one part, all
networks are judged on the other, with the statistics of the batch and with running ones. ``linear`` runs first; SNAS,
on the statistics of the batch too, then takes as many steps as fit into the same CPU seconds. A seed is another draw of
images and samples; candidates stay the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from hant import Budget, Context
from hant.passes.networks.supernet import Statistics
from hant.passes.ranking.judge import Judge, Protocol
from hant.passes.scoring.records import ScoreRecord
from hant.passes.searching.contest import Contest, Ints
from hant.passes.searching.linear import Linear, linear_search
from hant.passes.searching.race import Racing
from hant.passes.searching.snas import SnasPass
from hant.passes.selecting.solver.problem import SelectionProblem
from hant.passes.selecting.solver.solve import solve
from hant.passes.selecting.table import error_table, search_table
from hant.tests.bench.search_cifar10 import copied, make_context, run_parser

Engine = Callable[[], Ints]


def options() -> argparse.Namespace:
    parser = run_parser(__doc__)
    add = parser.add_argument
    add("--budgets", default="0.3,0.45,0.6,0.75")
    add("--seeds", default="0,1,2")
    add("--searched", type=int, default=1000, help="held-out images to search on; the rest judges")
    add("--judged", type=int, default=2000, help="other held-out images to judge on, at most")
    add("--rounds", type=int, default=4, help="of the linearised search")
    add("--snas-batch", type=int, default=16)
    add("--solutions", type=int, default=100, help="of the integer program on scores, where the run is scored")
    return parser.parse_args()


def contest_of(context: Context, budget: str, *, scores: bool = False) -> Contest:
    """The contest under a share of the teacher's sum of the table."""
    table = (search_table if scores else error_table)(context.store, context.teacher)
    return Contest(table, {"ms": float(budget) * table.total("ms", table.teacher())})


def snas(context: Context, contest: Contest, budget: str, seed: int, args: argparse.Namespace, seconds: float) -> Ints:
    """SNAS on the statistics of the batch, with the steps that fit into ``seconds`` by the time of its first ten."""
    batch, searched = args.snas_batch, args.searched
    judge = Judge(context, Protocol(searched, batch, statistics="batch"))
    search = SnasPass(
        budget=Budget.parse(budget), steps=10, search_batch_size=batch, statistics="batch", samples=searched, draw=seed
    )
    started = time.process_time()
    search.search(context, contest, judge)
    each = (time.process_time() - started) / 10
    choice: Ints = replace(search, steps=max(20, round(seconds / each))).search(context, contest, judge).choice
    return choice


def integer(context: Context, budget: str, options: argparse.Namespace) -> Ints:
    """The integer program on the sum of scores: K diverse selections, the best on the images of the search."""
    contest = contest_of(context, budget, scores=True)
    problem = SelectionProblem(
        loss=contest.table.loss,
        cost={"ms": contest.table.cost["ms"]},
        limits=dict(contest.limits),
        solutions=options.solutions,
    )
    judge = Judge(context, Protocol(options.searched, 200, statistics="batch"))
    return Racing(judge, contest.table, options.searched).best([found.choice for found in solve(problem)])


def judged(context: Context, choice: dict[str, str], searched: int, count: int) -> str:
    """Loss and accuracy on ``count`` images behind the first ``searched``, by each kind of statistics, as cells."""
    cells = []
    judge = Judge(context, Protocol(10**9, 200, statistics="batch"))
    unseen = searched + torch.randperm(judge.total - searched, generator=torch.Generator().manual_seed(0))[:count]
    kinds: tuple[Statistics, ...] = ("batch", "running")
    for kind in kinds:
        loss, right = 0.0, 0.0
        for part in torch.split(unseen, 200):
            images, labels = judge.sample(part)
            outputs = judge.supernet.outputs(choice, images, kind)
            loss += float(torch.nn.functional.cross_entropy(outputs, labels, reduction="sum"))
            right += float((outputs.argmax(1) == labels).sum())
        cells.append(f"{loss / len(unseen):.4f} ({100 * right / len(unseen):.2f})")
    return " | ".join(cells)


def main() -> None:
    args = options()
    torch.set_num_threads(1)
    print("| budget | seed | engine | CPU s | loss, batch statistics (acc %) | loss, running (acc %) |")
    print("|---:|---:|---|---:|---:|---:|", flush=True)
    with copied(args.run, partial(make_context, args)) as context:
        for budget in args.budgets.split(","):
            for seed in map(int, args.seeds.split(",")):
                rows(context, budget, seed, args)


def rows(context: Context, budget: str, seed: int, args: argparse.Namespace) -> None:
    """Print the row of each engine."""
    contest = contest_of(context, budget)
    linear = Linear(samples=args.searched, race_images=args.searched // 2, draw=seed, rounds=args.rounds)
    started = time.process_time()
    found = linear_search(context, contest, budget, linear)
    seconds = time.process_time() - started
    row(context, budget, seed, "errors alone", found.records[0].choice, found.records[0].seconds, args)
    row(context, budget, seed, "linear", found.choices[0], seconds, args)
    engines: dict[str, Engine] = {
        "snas": partial(snas, context, contest, budget, seed, args, seconds),
    }
    if context.store.count(ScoreRecord.kind):
        engines[f"ilp K = {args.solutions}"] = partial(integer, context, budget, args)
    for name, engine in engines.items():
        started = time.process_time()
        choice = engine()
        table = contest_of(context, budget, scores=name.startswith("ilp")).table
        row(context, budget, seed, name, table.choice(choice), time.process_time() - started, args)


def row(
    context: Context,
    budget: str,
    seed: int,
    name: str,
    choice: dict[str, str],
    seconds: float,
    args: argparse.Namespace,
) -> None:
    """Print one."""
    cells = judged(context, choice, args.searched, args.judged)
    print(f"| {budget} | {seed} | {name} | {seconds:.0f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
