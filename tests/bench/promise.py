"""Is a latency budget kept? Twenty budgets on one scored run, each student timed again, apart from the search.

    python tests/bench/search_cifar10.py --teacher cifar10-resnet56 --run runs/search-resnet56 --images 4000
    python tests/bench/promise.py --run runs/search-resnet56 --images 4000

The run is copied: nothing in it changes. The copy forgets the whole networks that were timed in it. ``select`` keeps
the promise as in the whole job; what it settles on is then lowered anew and timed next to the teacher once more, and
that second timing counts. No fine-tuning: it changes no time.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from hant import Budget
from hant.backends.measuring.statistics import ratio_interval
from hant.passes.latency.measure import measure_networks
from hant.passes.latency.profile import ProfilePass
from hant.passes.latency.records import CalibrationRecord, LatencyModelRecord, LatencyRecord, NetworkLatencyRecord
from hant.passes.selecting.records import SelectionRecord
from hant.passes.selecting.select import SelectPass
from hant.tests.bench.search_cifar10 import copied, make_context, run_parser
from hant.transformer.contracts.context import Context
from hant.transformer.errors import InfeasibleError


def options() -> argparse.Namespace:
    parser = run_parser(__doc__)
    add = parser.add_argument
    add("--least", type=float, default=0.25)
    add("--most", type=float, default=0.9)
    add("--budgets", type=int, default=20)
    return parser.parse_args()


def kept(context: Context, budget: float) -> tuple[float, float, float, int] | str:
    """Return the second timing's ratio, its interval, and the networks that were measured; or why there is none."""
    before = context.store.count(NetworkLatencyRecord.kind)
    try:
        SelectPass(budget=Budget.parse(f"{budget:.4f}"), solutions=1).run(context)
    except InfeasibleError as error:
        return str(error)
    measured = context.store.count(NetworkLatencyRecord.kind) - before
    selection = context.store.get(SelectionRecord, "000")
    assert selection is not None, "select writes it"
    (again,) = measure_networks(context, [selection.choice])
    ratio = ratio_interval(again.timing, again.teacher)
    return ratio.value, ratio.low, ratio.high, measured


def report(budgets: Sequence[float], ratios: Sequence[float]) -> None:
    used = np.array(ratios) / np.array(budgets)
    print(f"\ninside the budget {(used <= 1).sum()} of {len(used)}; used 0.97 to 1.00 of it "
          f"{((used >= 0.97) & (used <= 1)).sum()} times; least {used.min():.3f}, most {used.max():.3f}")  # fmt: skip


def main() -> None:
    args = options()
    torch.set_num_threads(1)
    found: dict[float, float] = {}
    with copied(args.run, partial(make_context, args)) as context:
        for kind in (LatencyRecord, NetworkLatencyRecord, CalibrationRecord, LatencyModelRecord):
            context.store.delete(kind)  # measured when the machine was in another state
        ProfilePass().run(context)
        print("| budget | second timing (99 % interval) | share of the budget | networks measured |")
        print("|---:|---|---:|---:|")
        for budget in np.linspace(args.least, args.most, args.budgets).round(4).tolist():
            answer = kept(context, budget)
            if isinstance(answer, str):
                print(f"| {budget:.3f} | {answer} | | |", flush=True)
                continue
            ratio, low, high, measured = answer
            found[budget] = ratio
            print(
                f"| {budget:.3f} | {ratio:.4f} ({low:.4f} to {high:.4f}) | {ratio / budget:.3f} | {measured} |",
                flush=True,
            )
    report(list(found), list(found.values()))


if __name__ == "__main__":
    main()
