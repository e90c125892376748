"""Many students of one run: find their selections, train once, cut each out, export, verify and report it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...backends.targets.load import load_target
from ...passes.latency.records import NetworkLatencyRecord
from ...passes.ranking.records import WinnerRecord
from ...passes.reporting.report import ReportPass
from ...passes.sharing.cost import epochs_alone
from ...passes.sharing.front import Front, FrontPoint, means, write_front
from ...passes.sharing.records import SharedRecord
from ...passes.sharing.shrink import ShrinkPass
from ..contracts.budget import Budget
from ..contracts.context import Context
from ..contracts.target import Target
from ..errors import HantError, InfeasibleError, UnverifiedError, UsageError
from ..plugins import load_plugin
from ..runs.students import check_name
from ..tools.files import slug
from .build import build_pass, build_pipeline, effective, shared_options
from .config import Config, merge
from .default import order
from .outcome import check_outcome, read_report
from .pipeline import Pipeline
from .session import keep

_SOLUTIONS = 25
"""Selections that are ranked for each student unless it is said: what they are worth before training decides little."""


@dataclass(frozen=True)
class Wanted:
    """A student that was asked for."""

    name: str
    budget: Budget
    context: Context
    """The run as this student has it on its target."""
    pipeline: Pipeline


def base_passes(config: Config) -> tuple[str, ...]:
    """Return the passes that come before any selection, and the shared training.

    Raises:
        UsageError: the engine of the search makes no selections of blocks.
    """
    names = order(config.search)
    if "rank" not in names:
        raise UsageError(f"shrink does not go with --search {config.search}; give ilp, errors or linear")
    return (*names[: names.index("pretrain") + 1], "shrink")


def shrink(
    context: Context, config: Config, budgets: Sequence[str], targets: Sequence[str] = (), *, anew: bool = False
) -> Front:
    """Make a student for each budget on each target, and write ``front.json``.

    A budget that cannot be met, or a student that cannot be verified, does not stop the others. Where the run has been
    trained, further budgets take no step of training; ``anew`` trains again, for the budgets that are given.

    Args:
        context: of the run, with the teacher captured and candidates trained.
        config: of the run.
        budgets: as for ``--budget``.
        targets: names or files; the run's own if left out.
        anew: whether to leave aside what was trained before.

    Raises:
        UsageError: a budget that is none, two students of one name, or options that do not go together.
        InfeasibleError: no budget can be met.
    """
    options = _options(config)
    anything = options.shared and options.any(context)
    own = config.model_copy(update={"search": "shared"}) if anything else config
    wanted = _wanted(context, own, budgets, targets, options.shared)
    points = {student.name: _point(student) for student in wanted}
    # Where any students are trained, selections are found in what was trained; else they are what is trained.
    found = [student for student in wanted if _advance(student, points, "pretrain" if anything else "rank")]
    if options.shared and found:
        found = _train(context, config, found, points, anew)
    if anything:
        found = [student for student in found if _advance(student, points, "rank")]
    if not found:
        raise InfeasibleError(next(iter(points.values())).reason)
    for student in found:
        _finish(student, points)
    for student in found:
        if points[student.name].made:  # what it says of the others is known only now
            _report_again(student)
    front = _front(context, list(points.values()), found, options)
    write_front(context.store, front)
    return front


def _options(config: Config) -> ShrinkPass:
    made = build_pass(ShrinkPass, config.passes.get("shrink", {}), shared_options(config))
    assert isinstance(made, ShrinkPass)
    return made


def _wanted(
    context: Context, config: Config, budgets: Sequence[str], targets: Sequence[str], shared: bool
) -> list[Wanted]:
    """Open every student, with settings of its own."""
    if not budgets:
        raise UsageError("no budgets given; give --budgets 0.3,0.45,0.6")
    found: dict[str, Wanted] = {}
    for place in targets or (config.target,):
        target = context.target if place == config.target else _target(place, config)
        for text in budgets:
            budget = Budget.parse(text, tuple(config.limits), target.batch_size)
            name = check_name(slug(f"{target.name}-{Budget(budget.latency)}"))
            if name in found:
                raise UsageError(f"two students would be called {name}; give each budget and each target's name once")
            found[name] = _open(context, config, name, place, target, budget, shared)
    return list(found.values())


def _target(place: str, config: Config) -> Target:
    changes = {"precision": config.precision, "batch_size": config.batch_size}
    return load_target(place).model_copy(update={name: value for name, value in changes.items() if value is not None})


def _open(
    context: Context, config: Config, name: str, place: str, target: Target, budget: Budget, shared: bool
) -> Wanted:
    tables = merge(config.passes, {"finetune": {"epochs": 0}}) if shared else config.passes
    changes: dict[str, Any] = {
        "student": name,
        "target": place,
        "budget": str(Budget(budget.latency)),
        "passes": tables,
    }
    if shared:
        changes |= {"shared": True, "epochs": None, "solutions": config.solutions or _SOLUTIONS}
    own = config.model_copy(update=changes)
    there = replace(
        context,
        store=context.store.of(name),
        target=target,
        backend=load_plugin("hant.backends", target.backend)(),
    )
    pipeline = build_pipeline(own)
    keep(there.store, effective(own, pipeline).model_copy(update={"output": str(context.store.root)}), context.progress)
    return Wanted(name, budget, there, pipeline)


def _point(student: Wanted, **facts: object) -> FrontPoint:
    values = {"target": student.context.target.name, "budget": str(student.budget), "student": student.name}
    return FrontPoint.model_validate({**values, "made": False, **facts})


def _advance(student: Wanted, points: dict[str, FrontPoint], last: str) -> bool:
    """Run the student's passes to the ``last``, which is ``rank`` for a selection; return whether it can go on."""
    names = student.pipeline.names
    student.context.progress.log(f"student {student.name}: {'selection' if last == 'rank' else 'latencies'}")
    try:
        student.pipeline.run(student.context, only=names[: names.index(last) + 1])
    except UnverifiedError:
        return True  # the end of its pipeline says so again
    except InfeasibleError as error:
        points[student.name] = _point(student, reason=str(error))
        return False
    return True


def _train(
    context: Context, config: Config, students: Sequence[Wanted], points: dict[str, FrontPoint], anew: bool
) -> list[Wanted]:
    """Train the shared weights if that is to be done; return the students that can be cut out of them."""
    store = context.store
    known = store.get(SharedRecord, "shared")
    if known is None or anew or not store.path(known.file).is_file():
        named = [] if _options(config).any(context) else [student.name for student in students]
        tables = merge(config.passes, {"shrink": {"students": named}})
        context.progress.log(_break_even(context, config.model_copy(update={"passes": tables}), students))
        pipeline = build_pipeline(config.model_copy(update={"passes": tables, "shared": None}), base_passes(config))
        pipeline.run(context, only=("shrink",))
        return list(students)
    context.progress.log(f"shrink: trained before by {known.schedule}, in {known.steps} steps; no step of training")
    left = []
    for student in students:
        winner = student.context.store.get(WinnerRecord, "winner")
        lacking = known.lacking(winner.choice) if winner is not None else []
        if lacking:
            reason = (
                f"its selection has {lacking[0]}, which was not trained; --anew trains again, for all budgets given"
            )
            points[student.name] = _point(student, reason=reason)
        else:
            left.append(student)
    return left


def _break_even(context: Context, config: Config, students: Sequence[Wanted]) -> str:
    """Return what the training costs together and one by one, in words."""
    together, alone = _options(config).epochs_together(context), _alone(students)
    return (
        f"shrink: {together:.1f} epochs of the full network for all {len(students)} students, {alone:.1f} one by one; "
        f"together costs as much as {together / alone * len(students):.1f} of them"
    )


def _alone(students: Sequence[Wanted]) -> float:
    return sum(epochs_alone(student.context, _expected(student)) for student in students)


def _expected(student: Wanted) -> float:
    """Return the share of the teacher's latency that the student may have."""
    teacher = student.context.store.get(NetworkLatencyRecord, "teacher")
    allowed = student.budget.latency
    return allowed.value if allowed.relative or teacher is None else min(1.0, allowed.value / teacher.timing.ms)


def _finish(student: Wanted, points: dict[str, FrontPoint]) -> None:
    """Cut the student out, export, verify and report it."""
    context, reason = student.context, ""
    context.progress.log(f"student {student.name}")
    try:
        student.pipeline.run(context)
        check_outcome(context.store)
    except UnverifiedError as error:
        reason = str(error)
    except HantError as error:
        points[student.name] = _point(student, reason=str(error))
        return
    points[student.name] = _reported(student, reason)


def _reported(student: Wanted, reason: str) -> FrontPoint:
    """Return what the student's report says."""
    if not student.context.store.path("report.json").is_file():
        return _point(student, reason=reason)
    report = read_report(student.context.store)
    latency, accuracy = report.latency, report.accuracy
    return _point(
        student,
        made=True,
        verified=not reason,
        reason=reason,
        ratio=latency.ratio,
        ratio_interval=latency.ratio_interval,
        student_ms=latency.student_ms,
        estimated=latency.estimated,
        accuracy=accuracy.student,
        drop=accuracy.drop,
        selected=accuracy.selected,
        held_out=accuracy.finetuned,
    )


def _report_again(student: Wanted) -> None:
    stage = next(stage for stage in student.pipeline.passes if isinstance(stage, ReportPass))
    stage.run(student.context)


def _front(context: Context, points: Sequence[FrontPoint], students: Sequence[Wanted], options: ShrinkPass) -> Front:
    known = context.store.get(SharedRecord, "shared") if options.shared else None
    facts: Mapping[str, object] = {} if known is None else _facts(known)
    return Front.model_validate(
        {
            "shared": options.shared,
            "metric": context.metric,
            "points": points,
            "mean_accuracy": means(points),
            "alone": _alone(students),
            **facts,
        }
    )


def _facts(record: SharedRecord) -> dict[str, object]:
    return {
        "schedule": record.schedule,
        "epochs": record.epochs,
        "cost": record.cost,
        "seconds": record.seconds,
    }
