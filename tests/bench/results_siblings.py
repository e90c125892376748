"""Is the student better than the smaller sibling of the same latency? HANT table 2 on CIFAR-10's ResNets.

    python tests/bench/results_siblings.py --run runs/siblings --epochs 10
    python tests/bench/results_siblings.py --quick

For each sibling its latency beside the teacher's is the budget; student, sibling and teacher are timed interleaved at
the end (``--again`` does that anew). ``--budgets`` are looked at as well, timed with what ``--beside`` names. The same
command goes on after a stop; prints a table in Markdown.

``--quick`` makes one student at 0.45 on one core and all it needs, with few steps for each candidate, few selections
and one epoch of alignment, and fine-tunes it where half an hour of processor time leaves room for whole epochs; its
last line has latency, top-1 and CPU seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from statistics import mean, stdev

from hant.passes.reporting.figures.charts import Series, scatter
from hant.tests.bench.results_common import Study, common_options, print_table, run_study
from hant.tests.bench.results_measure import Facts, accuracy, compared, interval, timed
from hant.tests.bench.search_cifar10 import Step, teacher_of
from torch import nn

SIBLINGS = "cifar10-resnet44,cifar10-resnet32,cifar10-resnet20"


def sibling_of(study: Study, name: str) -> nn.Module:
    return teacher_of(study.args.data, name, study.context().store.root)


def sibling_facts(study: Study, name: str) -> Facts:
    sibling = sibling_of(study, name)
    teacher, timing = timed(study.context(), [sibling])
    return {"accuracy": accuracy(study.context(), sibling), **compared("teacher", timing, teacher)}


def names(study: Study) -> list[str]:
    return [name for name in study.args.siblings.split(",") if name]


def steps(study: Study) -> Iterator[Step]:
    yield from study.teacher_accuracy()
    for name in names(study):
        yield from study.ledger.once(name, partial(sibling_facts, study, name))
    yield from study.prepare()
    beside = study.args.beside
    for turn in range(study.args.seeds):  # a first training of each student before a second of any
        for name in names(study):
            budget = f"{(study.ledger.get(name) or {})['ratio_teacher']:.4f}"
            yield from student_steps(study, f"under {name}", budget, sibling_of(study, name), turn)
        for budget in filter(None, study.args.budgets.split(",")):
            other = sibling_of(study, beside) if beside else None
            yield from student_steps(study, f"at {budget}", budget, other, turn)


def student_steps(study: Study, key: str, budget: str, beside: nn.Module | None, turn: int = 0) -> Iterator[Step]:
    yield from study.select(f"{key}/select", budget)
    choice = (study.ledger.get(f"{key}/select") or {}).get("choice")
    if choice is not None:
        named = turned(study, key, turn)
        yield from study.align(named, choice, turn)
        start, epochs = partial(study.aligned, named, choice), affordable(study, named)
        yield from study.judge(f"{named}/{epochs}", start, epochs, beside, turn)


def affordable(study: Study, named: str) -> int:
    """Return the epochs of fine-tuning that ``--cpu-seconds`` leave room for; one takes as long as one of alignment."""
    most, limit = int(study.args.epochs), study.args.cpu_seconds
    aligned = study.ledger.get(f"{named}/align")
    if limit is None or aligned is None or not aligned["epochs"]:
        return most
    steps = study.ledger.ending("").items()
    spent = sum(facts.get("cpu_seconds", 0.0) for key, facts in steps if not key.startswith(f"{named}/"))
    judging = 2 * study.seconds("teacher")
    left = limit - spent - aligned["cpu_seconds"] - judging
    return max(0, min(most, int(left / (aligned["cpu_seconds"] / aligned["epochs"]))))


def judged(study: Study, named: str, part: str) -> Facts | None:
    """Return what is known of a student ``before`` or ``after`` its fine-tuning."""
    return study.ledger.get(f"{named}/{affordable(study, named)}/{part}")


def turned(study: Study, key: str, turn: int) -> str:
    """Return the key of a student's training with the seed that is ``turn`` further than the study's."""
    return f"{key}, seed {study.args.seed + turn}" if turn else key


def row(study: Study, key: str, sibling: str) -> list[str]:
    ledger = study.ledger
    refused = (ledger.get(f"{key}/select") or {}).get("refused")
    before, after = (judged(study, key, part) for part in ("before", "after"))
    if before is None or after is None:
        return [key, refused or "not done", *[""] * 5]
    trained = [judged(study, turned(study, key, n), "after") for n in range(study.args.seeds)]
    found = [float(facts["accuracy"]) for facts in trained if facts is not None]
    mine, teachers = mean(found), (ledger.get("teacher") or {})["accuracy"]
    spread = f" ± {stdev(found):.2f} over {len(found)} seeds" if len(found) > 1 else ""
    theirs = (ledger.get(sibling) or {}).get("accuracy")
    return [
        key,
        interval(after, "teacher"),
        interval(after, "beside") if "ratio_beside" in after else "",
        f"{before['accuracy']:.2f}",
        f"{mine:.2f}{spread}",
        f"{theirs:.2f} ({mine - theirs:+.2f})" if theirs is not None else "",
        f"{teachers:.2f} ({mine - teachers:+.2f})",
    ]


def write_results(study: Study) -> None:
    args = study.args
    print_table(
        f"{args.teacher}, pool {args.pool}, {study.treatment}",
        (
            "student",
            "latency to teacher (99 %)",
            "to sibling (99 %)",
            "top-1 before",
            "after",
            "sibling (gain)",
            "teacher (gain)",
        ),
        [row(study, f"under {name}", name) for name in names(study)]
        + [row(study, f"at {budget}", args.beside) for budget in filter(None, args.budgets.split(","))],
    )
    print(f"\nPreparation of the pool, once for all rows: {study.preparation():.0f} CPU seconds")
    if args.figure is not None:
        args.figure.write_text(figure(study))


def figure(study: Study) -> str:
    """Return latency against accuracy of the pretrained networks and of every student of the folder, as SVG."""
    known = {name: study.ledger.get(name) for name in SIBLINGS.split(",")}
    pretrained = {name: (facts["ratio_teacher"], facts["accuracy"]) for name, facts in known.items() if facts}
    pretrained[study.args.teacher] = (1.0, (study.ledger.get("teacher") or {})["accuracy"])
    lines = {"pretrained": pretrained}
    for key, facts in study.ledger.ending("/after").items():
        name, epochs, _ = key.rsplit("/", 2)
        lines.setdefault(f"hant, {epochs} epochs", {})[name] = (facts["ratio_teacher"], facts["accuracy"])
    series = []
    for name, points in lines.items():
        ordered = dict(sorted(points.items(), key=itemgetter(1)))
        series.append(Series(name, list(ordered.values()), list(ordered), joined=True))
    return scatter(series, ("latency, share of the teacher's", "top-1 on test data, %"), f"From {study.args.teacher}")


QUICK = {
    "siblings": "",
    "budgets": "0.45",
    "pretrain_epochs": 0.15,
    "halving": 2,
    "score_images": 250,
    "solutions": 25,
    "align_epochs": 1,
    "epochs": 3,
    "cpu_seconds": 1750.0,
}
"""One student within half an hour of one core."""


def write_quick(study: Study) -> None:
    """Print what the student of ``--quick`` is worth, as the last line."""
    facts = judged(study, f"at {QUICK['budgets']}", "after")
    if facts is None:
        raise SystemExit("the student is not done; the same command goes on")
    seconds = sum(float(entry.get("cpu_seconds", 0.0)) for entry in study.ledger.ending("").values())
    told = f"latency {facts['ratio_teacher']:.3f}, top-1 {facts['accuracy']:.2f}, CPU seconds {seconds:.0f}"
    print(f"\nquick: {told}")


def main() -> None:
    parser = common_options(__doc__)
    parser.add_argument("--quick", action="store_true", help="one student at 0.45, everything made on the way")
    parser.add_argument("--cpu-seconds", type=float, help="of all steps; fine-tuning gets at most what they leave")
    parser.add_argument("--figure", type=Path, help="SVG file to draw latency against accuracy into")
    parser.add_argument("--beside", default="", help="pretrained network to time the students of --budgets with")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each student, with seeds that follow on")
    parser.add_argument("--siblings", default=SIBLINGS, help="names of pretrained networks, with commas")
    parser.set_defaults(run=Path("runs/siblings"))
    if "--quick" in sys.argv:
        parser.set_defaults(run=Path("runs/quick"), **QUICK)
        run_study(parser, steps, write_quick)
    else:
        run_study(parser, steps, write_results)


if __name__ == "__main__":
    main()
