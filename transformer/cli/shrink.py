"""What ``hant-opt shrink`` does."""

from __future__ import annotations

import json
from dataclasses import replace

from rich.console import Console

from ...passes.sharing.front import FRONT, Front, FrontPoint
from ..contracts.store import Store
from ..errors import InfeasibleError, UnverifiedError, UsageError
from ..pipeline.config import merge
from ..pipeline.shrinking import base_passes, shrink
from .opening import opened
from .options import ShrinkCommand
from .resolve import Job, resolve
from .streams import result_only
from .tables import write_line, write_table
from .terminal import write_json

_HEADS = ("target", "budget", "student", "ratio", "test", "drop", "before", "verified")


def run_shrink(command: ShrinkCommand) -> int:
    """Make the students and print them side by side."""
    budgets, targets = _split(command.budgets), _split(command.targets)
    job = _checked(command, resolve(command.given))
    if not budgets:
        raise UsageError("shrink needs budgets; give --budgets 0.3,0.45,0.6")
    names = base_passes(job.config)
    with opened(command, job, names, only=names[:-1]) as (context, pipeline):
        with result_only():
            context = pipeline.run(context, only=names[:-1])
            front = shrink(context, job.config, budgets, targets, anew=command.anew)
        _show(context.store, front, as_json=command.as_json)
    check_front(front)
    return 0


def check_front(front: Front) -> None:
    """Say so where a student is not as it was asked for.

    Raises:
        InfeasibleError: one could not be made.
        UnverifiedError: one is not verified on its target.
    """
    missing = [point for point in front.points if not point.made]
    if missing:
        first = missing[0]
        raise InfeasibleError(
            f"{len(missing)} of {len(front.points)} students are not made; {first.student}: {first.reason}"
        )
    open_ = [point for point in front.points if not point.verified]
    if open_:
        raise UnverifiedError(
            f"{len(open_)} of {len(front.points)} students are not verified; {open_[0].student}: {open_[0].reason}"
        )


def _checked(command: ShrinkCommand, job: Job) -> Job:
    """Refuse what does not go with the verb; slices are not trained before the training that they share."""
    for name, instead in (("budget", "give --budgets"), ("student", "it names its students itself")):
        if name in command.given:
            raise UsageError(f"shrink does not take --{name}: {instead}")
    if job.config.data is None:
        raise UsageError(
            "shrink needs data; give --data digits, cifar10:DIR, imagefolder:DIR or package.module:function"
        )
    if job.from_run:
        return job
    passes = merge({"pretrain": {"derived": "copy"}}, job.config.passes)
    return replace(job, config=job.config.model_copy(update={"passes": passes}))


def _show(store: Store, front: Front, *, as_json: bool) -> None:
    if as_json:
        write_json(json.loads(front.model_dump_json()))
        return
    console = Console()
    write_table(console, _HEADS, [_row(point, front) for point in front.points], right=5)
    for target, mean in front.mean_accuracy.items():
        write_line(console, f"mean Pareto accuracy on {target}: {front.metric.text(mean)}")
    cost = f"one by one the same students cost {front.alone:.1f} epochs of the full network"
    if front.shared:
        cost = f"shared training: {front.cost:.1f} epochs of the full network, {front.seconds:.0f} s; {cost}"
    write_line(console, cost)
    for point in front.points:
        if point.reason:
            write_line(console, f"{point.student}: {point.reason}")
    write_line(console, f"files: {store.path(FRONT)}, {store.path('figures/front.svg')}, {store.path('students')}")


def _row(point: FrontPoint, front: Front) -> tuple[str, ...]:
    if not point.made or point.ratio is None or point.accuracy is None:
        return (point.target, point.budget, point.student, "", "", "", "", "not made")
    before = "" if point.selected is None else front.metric.text(point.selected)
    drop = "" if point.drop is None else front.metric.difference(point.drop)
    return (
        point.target,
        point.budget,
        point.student,
        f"{'~' if point.estimated else ''}{point.ratio:.3f}",
        front.metric.text(point.accuracy),
        drop,
        before,
        "yes" if point.verified else "no",
    )


def _split(text: str | None) -> list[str]:
    return [item.strip() for item in (text or "").split(",") if item.strip()]
