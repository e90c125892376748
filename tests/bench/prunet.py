"""What PruNet's parts are good for, on a run whose candidates are trained: pruning, skip factors, and other searches.

    python tests/bench/prunet.py --teacher digits --run runs/digits --study pruning
    python tests/bench/prunet.py --run runs/resnet56 --study skips,searches --budgets 0.3,0.45,0.6

The run is pretrained (``hant-opt pretrain``); it is copied, nothing is written into it but ``prunet.json``, where every
row is kept: the same command goes on after a stop. Latencies are the lookup table's; nothing is measured. Networks are
judged on held-out images, which no search sees but ``linear``, with the statistics of the batch.

``pruning``: the threshold rising, constant, or none at all: CPU seconds, operations run, loss of what is found.
``skips``: prices times block factors: layers that are kept, and the loss of the search (PruNet, table 6).
``widths``: a Prunode of one block at two prices against every width trained alone for as many steps: width, regret.
``searches``: PruNet against the linearised search, both aligned and fine-tuned for as many steps as fit into the CPU
seconds that the longer one took in all; a row says how many.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hant import Block, Context
from hant.op_library.cost import macs
from hant.op_library.elastic import Elastic
from hant.op_library.pools import operation
from hant.passes.candidates.build import build_candidate
from hant.passes.finetuning.labels import objective_of
from hant.passes.finetuning.recipe import FinetuneRecipe
from hant.passes.networks.assemble import CandidateWeights, build_student, independent
from hant.passes.networks.evaluate import evaluate
from hant.passes.ranking.judge import Judge, Protocol
from hant.passes.searching.columns import ColumnsPass
from hant.passes.searching.contest import Contest
from hant.passes.searching.linear import Linear, linear_search
from hant.passes.searching.prunet.ladder import Ladder
from hant.passes.searching.prunet.options import Prunet
from hant.passes.searching.prunet.outcome import TrainedCandidates, made_of
from hant.passes.searching.prunet.prunet import trained
from hant.passes.searching.prunet.supernet import elastic_of
from hant.passes.searching.prunet.widening import Worth
from hant.passes.selecting.table import error_table
from hant.tests.bench.search_cifar10 import copied, make_context, run_parser
from hant.transformer.data.images import batches, size
from hant.transformer.data.splits import split
from hant.transformer.tools.seeds import derived_seed
from torch import nn

Row = dict[str, Any]


def options() -> argparse.Namespace:
    parser = run_parser(__doc__)
    add = parser.add_argument
    add("--study", default="pruning,skips,widths,searches")
    add("--blocks", default="", help="of widths; the middle one of all if left out")
    add("--kind", default="cb_stack_3x3_ex0.5", help="of widths: the widest operation, which the run has trained")
    add("--rungs", type=int, default=8)
    add("--budgets", default="0.3,0.45,0.6")
    add("--seeds", default="0,1,2")
    add("--steps", type=int, default=0, help="of the search; 0 for its own number")
    add("--alphas", default="0.2,0.4,0.8,1.2")
    add("--factors", default="1:1,1.1:0.85,1.1:0.55,1.1:0.4", help="skip factor : block factor")
    add("--epochs", type=float, default=2.0, help="of training that PruNet's result gets")
    return parser.parse_args()


class Table:
    """Rows as a file, in the order of their making."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: dict[str, Row] = json.loads(file.read_text()) if file.exists() else {}

    def row(self, key: str, make: Callable[[], Row]) -> None:
        """Print the row, made anew where it is not there."""
        if key not in self.rows:
            self.rows[key] = make()
            part = self.file.with_suffix(".part")
            part.write_text(json.dumps(self.rows, indent=1))
            part.replace(self.file)
        cells = " | ".join(
            f"{value:.4g}" if isinstance(value, float) else str(value) for value in self.rows[key].values()
        )
        print(f"| {key} | {cells} |", flush=True)

    def head(self, title: str, *names: str) -> None:
        print(f"\n{title}\n\n| what | {' | '.join(names)} |\n|---|{'--:|' * len(names)}", flush=True)


def contest_of(context: Context, share: float) -> Contest:
    table = error_table(context.store, context.teacher)
    return Contest(table, {"ms": share * table.total("ms", table.teacher())})


def judged(context: Context, choice: dict[str, str], weights: CandidateWeights | None) -> float:
    return Judge(context, Protocol(2000, 200, statistics="batch"), weights).totals(choice).mean("loss")


def searched(context: Context, share: float, prunet: Prunet) -> Row:
    """Search within a share of the table's sum, and tell what came of it."""
    contest = contest_of(context, share)
    outcome = trained(context, contest, prunet, "prunet")
    choice = contest.table.choice(contest.best(outcome.rows))
    clock = outcome.search.state.clock
    return {
        "seconds": clock.seconds,
        "operations run": int(clock.runs),
        "kept": sum(name != "identity" for name in outcome.preferred.values()),
        "search loss": clock.loss,
        "predicted share": contest.table.total("ms", outcome.preferred) / contest.limits["ms"] * share,
        "held-out loss": judged(context, choice, TrainedCandidates(outcome)),
    }


def pruning(context: Context, table: Table, args: argparse.Namespace) -> None:
    table.head("Pruning at budget 0.45", "CPU s", "operations run", "kept", "search loss", "share", "held-out loss")
    for seed in map(int, args.seeds.split(",")):
        for rule in ("rising", "constant", "none"):
            prunet = Prunet(steps=args.steps, draw=seed, pruning=rule)
            table.row(f"pruning {rule}, draw {seed}", partial(searched, context, 0.45, prunet))


def skips(context: Context, table: Table, args: argparse.Namespace) -> None:
    table.head("Skip factors", "CPU s", "operations run", "kept", "search loss", "share", "held-out loss")
    for alpha in map(float, args.alphas.split(",")):
        for pair in args.factors.split(","):
            skip, block = map(float, pair.split(":"))
            for seed in map(int, args.seeds.split(",")):
                prunet = Prunet(steps=args.steps, draw=seed, alpha=alpha, skip_factor=skip, block_factor=block)
                key = f"alpha {alpha:g}, factors {skip:g} and {block:g}, draw {seed}"
                table.row(key, partial(searched, context, 1.0, prunet))


def searches(context: Context, table: Table, args: argparse.Namespace) -> None:
    table.head("Searches at equal CPU seconds", "search CPU s", "loss before", "training steps", "loss", "accuracy, %")
    for share in map(float, args.budgets.split(",")):
        for seed in map(int, args.seeds.split(",")):
            for name in ("prunet", "linear"):
                key = f"budget {share:g}, draw {seed}, {name}"
                table.row(key, partial(compared, context, share, seed, name, table, args))


def compared(context: Context, share: float, seed: int, name: str, table: Table, args: argparse.Namespace) -> Row:
    """Search, then train the network; that of the shorter search gets the steps that this leaves time for."""
    contest, started = contest_of(context, share), time.process_time()
    weights: CandidateWeights | None = None
    if name == "prunet":
        outcome = trained(context, contest, Prunet(steps=args.steps, draw=seed), "prunet")
        choice, weights = contest.table.choice(contest.best(outcome.rows)), TrainedCandidates(outcome)
        seconds = outcome.search.state.clock.seconds
    else:
        choice = linear_search(context, contest, f"{share:g}", Linear(draw=seed)).choices[0]
        seconds = time.process_time() - started
    before = judged(context, choice, weights)
    student = independent(build_student(context.teacher, choice, weights or CandidateWeights(context.store))).network
    steps = max(1, round(args.epochs * size(split(context.dataset, context.seed).fit) / 64))
    first = table.rows.get(f"budget {share:g}, draw {seed}, prunet")
    if first is not None:
        each = steps_seconds(context, student, seed)
        steps = max(1, round(first["steps"] + (first["seconds"] - seconds) / each))
    loss, accuracy = fitted(context, student, steps, seed)
    return {"seconds": seconds, "before": before, "steps": steps, "loss": loss, "accuracy": accuracy}


def drawn(context: Context, seed: int) -> Iterator[tuple[torch.Tensor, Any]]:
    part, step = split(context.dataset, context.seed).fit, 0
    while True:
        generator = torch.Generator().manual_seed(derived_seed(seed, "bench", str(step)) % 2**31)
        yield next(batches(part, 64, torch.randperm(size(part), generator=generator)[:64], context.device))
        step += 1


def steps_seconds(context: Context, student: nn.Module, seed: int) -> float:
    """CPU seconds of a training step, of a copy."""
    started = time.process_time()
    fitted(context, copy.deepcopy(student), 10, seed)
    return (time.process_time() - started) / 10


def fitted(context: Context, student: nn.Module, steps: int, seed: int) -> tuple[float, float]:
    """Train as fine-tuning does; return loss and accuracy on held-out images."""
    recipe = FinetuneRecipe(epochs=1, steps=steps, batch_size=64, learning_rate=0.05, seed=seed, start="")
    objective, teacher = objective_of(context.dataset.task, recipe), context.teacher.network.eval()
    optimizer = recipe.make_optimizer(student.parameters())
    student.train()
    for step, (images, targets) in zip(range(steps), drawn(context, seed), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        optimizer.zero_grad()
        objective(student, teacher, images, targets).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
    found = evaluate(student.eval(), split(context.dataset, context.seed).held_out, task=context.dataset.task)
    return (found.loss if math.isfinite(found.loss) else math.inf), found.accuracy


def widths(context: Context, table: Table, args: argparse.Namespace) -> None:
    table.head(
        "Widths", "found", "best", "regret, %", "error over that of the width alone", "CPU s", "CPU s of all alone"
    )
    blocks = [block.name for block in context.teacher.replaceable]
    for name in args.blocks.split(",") if args.blocks else [blocks[len(blocks) // 2]]:
        block, steps = context.teacher.block(name), args.steps or 300
        columns = ColumnsPass(rungs=args.rungs, steps=steps)
        names = tuple(spec.name for spec in columns.widths(operation(args.kind)))
        macs_of = [macs(build_candidate(block, operation(one), 0), block.input) for one in names]
        ms = [count / macs_of[-1] for count in macs_of]
        started = time.process_time()
        alone = {one: width_alone(context, columns, block, names, one) for one in names}
        seconds = time.process_time() - started
        for factor in (0.3, 1.0):
            price = factor * (alone[names[0]] - alone[names[-1]]) / (ms[-1] - ms[0])
            key = f"{name}, {args.kind}, price {factor:g}, {steps} steps"
            table.row(key, partial(walked, context, columns, block, names, ms, alone, price, seconds))


def width_alone(context: Context, columns: ColumnsPass, block: Block, names: tuple[str, ...], name: str) -> float:
    """Error of one width that is trained alone, from the same start."""
    start = elastic_of(block, names, CandidateWeights(context.store))
    module = made_of(block, name, start.cut(name))
    only = Elastic(module, {}, name)
    return columns.trained(context, block, Ladder((name,), (1.0,)), Worth(1.0, 0.0), only)[1]


def walked(
    context: Context,
    columns: ColumnsPass,
    block: Block,
    names: tuple[str, ...],
    ms: list[float],
    alone: dict[str, float],
    price: float,
    seconds: float,
) -> Row:
    started, worth = time.process_time(), Worth(1.0, price)
    elastic = elastic_of(block, names, CandidateWeights(context.store))
    found, error, _ = columns.trained(context, block, Ladder(names, tuple(ms)), worth, elastic)
    costs = {one: worth.of(alone[one], own) for one, own in zip(names, ms, strict=True)}
    best = min(costs, key=lambda one: costs[one])
    spread = max(costs.values()) - costs[best]
    return {
        "found": found,
        "best": best,
        "regret": 100 * (costs[found] - costs[best]) / spread,
        "error": error / alone[found],
        "seconds": time.process_time() - started,
        "alone": seconds,
    }


STUDIES = {"pruning": pruning, "skips": skips, "widths": widths, "searches": searches}


def main() -> None:
    args = options()
    torch.set_num_threads(1)
    with copied(args.run, partial(make_context, args)) as context:
        table = Table(args.run / "prunet.json")
        for name in args.study.split(","):
            STUDIES[name](context, table, args)


if __name__ == "__main__":
    main()
