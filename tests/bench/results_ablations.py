"""What is each part of the method worth? Ablations of HANT on CIFAR-10's ResNets.

Length of fine-tuning (table 9), preloaded weights and no distillation (table 6), only skips (table 5: pool
``zero-shot``), the number of selections K, the size of the pool.

    python tests/bench/results_ablations.py --run runs/peers --budgets 0.45 --epochs 10

All rows but one thing are alike: pool, K, epochs, all weights preloaded, distillation. The same command goes on after a
stop, and with what ``results_peers.py`` did in the same folder; prints a table in Markdown for each question. The pool
of 197 takes hours to train: leave it out with ``--pools``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hant.tests.bench.results_common import Study, common_options, print_table, run_study
from hant.tests.bench.results_measure import Facts, interval
from hant.tests.bench.search_cifar10 import Step


@dataclass(frozen=True)
class Variant:
    """How one student is made."""

    budget: str
    pool: str
    solutions: int
    epochs: int
    preload: str = "all"
    distillation: float = 1.0
    rate: float | None = None
    """Of learning; None for that of the study."""

    def search(self, study: Study) -> str:
        """Return the key of its selection."""
        return study.searched(self.budget, self.pool, self.solutions)

    def key(self, study: Study) -> str:
        """Return the key of the student."""
        kept = f"{self.search(study)}/{self.epochs}"
        kept += f"/preload {self.preload}" if self.preload != "all" else ""
        kept += f"/distillation {self.distillation:g}" if self.distillation != 1 else ""
        return kept + (f"/rate {self.rate:g}" if self.rate is not None else "")

    @property
    def options(self) -> dict[str, Any]:
        """Those of its fine-tuning that are not the study's."""
        return {"distillation": self.distillation} | ({} if self.rate is None else {"learning_rate": self.rate})


def questions(args: argparse.Namespace, budget: str) -> dict[str, dict[str, Variant]]:
    """Return question -> row -> variant; a variant that answers two questions is made once."""
    base = Variant(budget, args.pool, args.solutions, args.epochs)
    rates = [float(text) for text in args.rates.split(",") if text]
    lengths = [int(text) for text in args.lengths.split(",") if text]
    return {
        "epochs of fine-tuning": {str(n): replace(base, epochs=n) for n in lengths},
        "preloaded weights": {
            "all": base,
            "teacher's only": replace(base, preload="teacher"),
            "none": replace(base, preload="none"),
            "all, no distillation": replace(base, distillation=0.0),
        },
        "learning rate": {"as the others": base, **{str(rate): replace(base, rate=rate) for rate in rates}},
        "selections": {f"K = {k}": replace(base, solutions=k) for k in (1, args.solutions)},
        "pool": {name: replace(base, pool=name) for name in args.pools.split(",") if name},
    }


def steps(study: Study) -> Iterator[Step]:
    yield from study.teacher_accuracy()
    for variant in variants(study):
        yield from study.prepare(variant.pool)
        yield from study.select(variant.search(study), variant.budget, variant.pool, variant.solutions)
        choice = (study.ledger.get(variant.search(study)) or {}).get("choice")
        if choice is not None:
            start = partial(study.transformed, choice, variant.pool, variant.preload)
            yield from study.judge(variant.key(study), start, variant.epochs, **variant.options)


def variants(study: Study) -> list[Variant]:
    asked = [questions(study.args, budget) for budget in study.args.budgets.split(",") if budget]
    return list(dict.fromkeys(v for tables in asked for rows in tables.values() for v in rows.values()))


def row(study: Study, name: str, variant: Variant) -> list[str]:
    key = variant.key(study)
    found: Facts = study.ledger.get(variant.search(study)) or {}
    before, after = (study.ledger.get(f"{key}/{part}") for part in ("before", "after"))
    if before is None or after is None:
        return [name, found.get("refused", "not done"), "", "", "", ""]
    return [
        name,
        interval(after, "teacher"),
        f"{before['accuracy']:.2f}",
        f"{after['accuracy']:.2f}",
        f"{study.seconds(variant.search(study)):.0f} + {study.preparation(variant.pool):.0f} once",
        f"{study.seconds(f'{key}/finetune'):.0f}",
    ]


def write_results(study: Study) -> None:
    args = study.args
    teacher = (study.ledger.get("teacher") or {}).get("accuracy", float("nan"))
    print(f"\n{args.teacher} ({teacher:.2f} %), {args.images} images, seed {args.seed}; unless the row says otherwise: "
          f"pool {args.pool}, K = {args.solutions}, {args.epochs} epochs")  # fmt: skip
    for budget in filter(None, args.budgets.split(",")):
        for question, rows in questions(args, budget).items():
            head = (
                question,
                "latency to teacher (99 %)",
                "top-1 before",
                "after",
                "search, CPU s",
                "fine-tuning, CPU s",
            )
            print_table(f"At {budget}", head, [row(study, name, variant) for name, variant in rows.items()])


def main() -> None:
    parser = common_options(__doc__)
    parser.set_defaults(search="ilp")  # the paper's way, which is what is taken apart
    parser.add_argument("--lengths", default="1,2,5,10,20", help="epochs of fine-tuning, with commas")
    parser.add_argument("--rates", default="", help="learning rates to try besides, with commas")
    parser.add_argument("--pools", default="zero-shot,fast,hant-197", help="names of pools, with commas")
    run_study(parser, steps, write_results)


if __name__ == "__main__":
    main()
