from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from hant.op_library.tensor_spec import TensorSpec
from hant.passes.finetuning.records import EpochRecord
from hant.passes.ranking.records import RankRecord
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.pass_ import Pass, PassResult, setting
from hant.transformer.errors import CaptureError, LostError, UnverifiedError, UsageError
from hant.transformer.ir.block import Block, BlockKind
from hant.transformer.ir.graph import Graph
from hant.transformer.pipeline.outcome import check_outcome
from hant.transformer.pipeline.pipeline import Pipeline
from hant.transformer.rewrite.rewriter import replace_blocks
from hant.transformer.runs.fingerprint import base, digest
from hant.transformer.runs.records import PassRecord
from torch import fx, nn


def graph_of(model: nn.Module, *targets: str, names: tuple[str, ...] = ()) -> Graph:
    module = fx.symbolic_trace(model)
    spec = TensorSpec((4, 4, 4))
    blocks = tuple(
        Block(
            name=name, kind=BlockKind.PLAIN, class_name="X", input=spec, output=spec, macs=1, parameters=1,
            identity_allowed=True, module=nn.Identity(), target=target, signature="x",
        )
        for name, target in zip(names or targets, targets, strict=True)
    )  # fmt: skip
    return Graph(module=module, blocks=blocks, inputs=(TensorSpec((1, 4, 4)),), rewriter=replace_blocks)


@dataclass(frozen=True)
class Trace(Pass):
    name: ClassVar[str] = "trace"
    ensures: ClassVar[tuple[str, ...]] = ("graph",)
    durable: ClassVar[bool] = False
    targets: tuple[str, ...] = ("0", "1.1")
    names: tuple[str, ...] = ()

    def run(self, context: Context) -> PassResult:
        return PassResult(graph=graph_of(context.model, *self.targets, names=self.names))


@dataclass(frozen=True)
class Rank(Pass):
    """Makes one record per unit; a unit that is there is not made again."""

    name: ClassVar[str] = "rank"
    ensures: ClassVar[tuple[str, ...]] = ("rank",)
    units: int = 2
    fail_at: int = -1

    def run(self, context: Context) -> PassResult:
        for unit in range(self.units):
            if unit == self.fail_at:
                raise KeyboardInterrupt
            if context.store.get(RankRecord, f"{unit}") is None:
                context.store.put(f"{unit}", RankRecord(index=unit, loss=0.0, accuracy=0.0, samples=1))
                context.store.event("unit", index=unit)
        return PassResult(notes=(f"{self.units} units",))


@dataclass(frozen=True)
class Tune(Pass):
    name: ClassVar[str] = "tune"
    requires: ClassVar[tuple[str, ...]] = ("rank",)
    ensures: ClassVar[tuple[str, ...]] = ("epoch",)
    rate: float = 0.1
    error: str = ""
    lazy: bool = False

    def run(self, context: Context) -> PassResult:
        if not self.lazy:
            record = EpochRecord(
                epoch=0, train_loss=self.rate, held_out_accuracy=0, learning_rate=0, seconds=0, recipe=""
            )
            context.store.put("0", record)
        if self.error:
            raise UnverifiedError(self.error)
        return PassResult()


@dataclass(frozen=True)
class Tell(Pass):
    name: ClassVar[str] = "tell"
    requires: ClassVar[tuple[str, ...]] = ("epoch",)

    def run(self, context: Context) -> PassResult:
        return PassResult()


def ran(context: Context) -> list[str]:
    return [str(payload["name"]) for _, payload in context.store.events("pass_started")]


def test_passes_run_in_order_and_are_recorded(context: Context) -> None:
    context = Pipeline([Trace(), Rank(units=3), Tune()]).run(context)
    assert ran(context) == ["trace", "rank", "tune"]
    assert [block.name for block in context.teacher.blocks] == ["0", "1.1"]
    record = context.store.get(PassRecord, "rank")
    assert record is not None
    assert record.options == {"units": 3, "fail_at": -1}
    assert record.notes == ("3 units",)
    assert record.seconds >= 0


def test_finished_passes_are_skipped_but_the_graph_is_made_again(context: Context) -> None:
    pipeline = Pipeline([Trace(), Rank(), Tune()])
    pipeline.run(context)
    again = pipeline.run(context)
    assert ran(context) == ["trace", "rank", "tune", "trace"]
    assert again.graph is not None


@pytest.mark.parametrize(
    ("passes", "rerun"),
    [
        pytest.param([Trace(), Rank(), Tune(rate=0.2)], ["tune"], id="own options"),
        pytest.param([Trace(), Rank(units=3), Tune()], ["rank", "tune"], id="options upstream"),
        pytest.param([Trace(targets=("0",)), Rank(), Tune()], ["rank", "tune"], id="options of an in-memory pass"),
    ],
)
def test_what_changed_runs_again_with_what_builds_on_it(context: Context, passes: list[Pass], rerun: list[str]) -> None:
    Pipeline([Trace(), Rank(), Tune()]).run(context)
    Pipeline(passes).run(context)
    assert ran(context)[3:] == ["trace", *rerun]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda c: replace(c, pool=c.pool[:1]), id="pool"),
        pytest.param(lambda c: replace(c, target=c.target.model_copy(update={"batch_size": 8})), id="target"),
    ],
)
def test_what_all_passes_build_on_counts(context: Context, change: Callable[[Context], Context]) -> None:
    pipeline = Pipeline([Trace(), Rank(), Tune()])
    pipeline.run(context)
    pipeline.run(change(context))
    assert ran(context)[3:] == ["trace", "rank", "tune"]


def test_a_run_is_bound_to_its_teacher_and_seed(context: Context) -> None:
    pipeline = Pipeline([Trace(), Rank(), Tune()])
    pipeline.run(context)
    with pytest.raises(UsageError, match="made with another seed"):
        pipeline.run(replace(context, seed=1))
    other = nn.Sequential(*context.model.children(), nn.Identity())
    with pytest.raises(UsageError, match="made with another model"):
        pipeline.run(replace(context, model=other))


def test_changed_weights_count(context: Context) -> None:
    pipeline = Pipeline([Trace(), Rank()])
    before = pipeline.fingerprints(context)
    with __import__("torch").no_grad():
        next(context.model.parameters()).flatten()[0] += 1
    after = pipeline.fingerprints(context)
    assert all(before[name] != after[name] for name in before)


def test_an_interrupted_pass_is_unfinished_and_keeps_its_units(context: Context) -> None:
    with pytest.raises(KeyboardInterrupt):
        Pipeline([Trace(), Rank(units=3, fail_at=2)]).run(context)
    assert context.store.get(PassRecord, "rank") is None
    Pipeline([Trace(), Rank(units=3)]).run(context)
    assert [payload["index"] for _, payload in context.store.events("unit")] == [0, 1, 2]


def test_a_pass_begun_with_other_options_is_no_longer_finished_with_the_old(context: Context) -> None:
    Pipeline([Trace(), Rank()]).run(context)
    with pytest.raises(KeyboardInterrupt):
        Pipeline([Trace(), Rank(units=3, fail_at=2)]).run(context)
    Pipeline([Trace(), Rank()]).run(context)
    assert ran(context).count("rank") == 3


def test_a_missing_artifact_names_what_makes_it(context: Context) -> None:
    with pytest.raises(UsageError, match=r"^tune needs rank, .* not have yet; run pass rank first: hant-opt rank "):
        Pipeline([Trace(), Rank(), Tune()]).run(context, only=["tune"])
    with pytest.raises(UsageError, match="no pass of this pipeline makes it"):
        Pipeline([Tune()]).run(context)


def test_what_a_late_pass_lacks_is_said_before_the_first_runs(context: Context) -> None:
    class Late(Tune):
        name: ClassVar[str] = "late"
        requires: ClassVar[tuple[str, ...]] = ("dough",)

    with pytest.raises(UsageError, match="late needs dough, which this run does not have yet; no pass of this pipe"):
        Pipeline([Trace(), Rank(), Late()]).run(context)
    assert ran(context) == []


def test_an_outdated_artifact_names_what_makes_it(context: Context) -> None:
    Pipeline([Trace(), Rank(), Tune()]).run(context)
    with pytest.raises(
        UsageError, match="tune needs rank, which is unfinished or made with other options; run pass rank"
    ):
        Pipeline([Trace(), Rank(units=4), Tune()]).run(context, only=["tune"])


def test_only_the_named_passes_run(context: Context) -> None:
    Pipeline([Trace(), Rank(), Tune()]).run(context, only=["rank"])
    assert ran(context) == ["trace", "rank"]
    with pytest.raises(UsageError, match="no pass 'rnak' in the pipeline; did you mean 'rank'"):
        Pipeline([Trace(), Rank()]).run(context, only=["rnak"])


def test_records_given_by_hand_count_as_inputs(context: Context) -> None:
    context.store.put("0", RankRecord(index=0, loss=0.0, accuracy=0.0, samples=1))
    Pipeline([Tune()]).run(context)
    Pipeline([Tune()]).run(context)
    assert ran(context) == ["tune"]
    context.store.put("0", RankRecord(index=0, loss=1.0, accuracy=0.0, samples=1))
    Pipeline([Tune()]).run(context)
    assert ran(context) == ["tune", "tune"]


def test_a_wrong_order_or_a_double_pass_is_refused() -> None:
    with pytest.raises(UsageError, match="tune needs rank, which rank makes; put rank before it"):
        Pipeline([Trace(), Tune(), Rank()])
    with pytest.raises(UsageError, match="pass 'rank' is in the pipeline 2 times"):
        Pipeline([Rank(), Rank(units=5)])


def test_a_pass_that_breaks_its_promise_is_a_bug(context: Context) -> None:
    with pytest.raises(RuntimeError, match="pass tune ended without making epoch, which it promises"):
        Pipeline([Trace(), Rank(), Tune(lazy=True)]).run(context)


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        pytest.param(Trace(names=("a", "a")), "2 blocks are named 'a'", id="names"),
        pytest.param(Trace(targets=("0", "7")), "block '7' points to '7', which is no submodule", id="target"),
        pytest.param(Trace(targets=("1.1", "0")), "block '1.1' is listed before '0' but runs after it", id="order"),
    ],
)
def test_a_broken_graph_is_refused(context: Context, trace: Trace, reason: str) -> None:
    with pytest.raises(CaptureError, match=f"graph is broken: {reason}"):
        Pipeline([trace]).run(context)


def test_unverified_work_is_reported_last_and_done_again(context: Context) -> None:
    pipeline = Pipeline([Trace(), Rank(), Tune(error="too slow"), Tell()])
    for _ in range(2):
        with pytest.raises(UnverifiedError, match="too slow"):
            pipeline.run(context)
    assert ran(context) == ["trace", "rank", "tune", "tell", "trace", "tune"]
    with pytest.raises(UnverifiedError, match="too slow"):
        check_outcome(context.store)


def test_unverified_work_that_made_nothing_ends_the_pipeline(context: Context) -> None:
    with pytest.raises(UnverifiedError, match="no device"):
        Pipeline([Trace(), Rank(), Tune(error="no device", lazy=True), Tell()]).run(context)
    assert ran(context) == ["trace", "rank", "tune"]


def test_what_was_verified_long_ago_does_not_stand_for_what_cannot_be_verified_now(context: Context) -> None:
    Pipeline([Trace(), Rank(), Tune(), Tell()]).run(context)
    with pytest.raises(UnverifiedError, match="no device"):
        Pipeline([Trace(), Rank(), Tune(error="no device", lazy=True), Tell()]).run(context)
    assert ran(context)[4:] == ["trace", "tune"]


def test_the_listener_hears_every_pass(context: Context) -> None:
    heard: list[str] = []
    for _ in range(2):
        Pipeline([Trace(), Rank()]).run(context, listener=lambda name, _: heard.append(name))
    assert heard == ["trace", "rank"] * 2


@dataclass(frozen=True)
class Careful(Pass):
    """Ranks with a file beside the record; ``hands`` decides nothing."""

    name: ClassVar[str] = "careful"
    ensures: ClassVar[tuple[str, ...]] = ("rank",)
    loss: float = 0.0
    hands: int = setting(1, decides=False)
    fail: str = ""

    def run(self, context: Context) -> PassResult:
        if self.fail == "at once":
            raise UsageError("no such loss")
        context.store.put("0", RankRecord(index=0, loss=self.loss, accuracy=0.0, samples=1))
        context.store.write("weights", "x")
        if self.fail:
            raise UsageError("half done")
        return PassResult()

    def lost(self, context: Context) -> str:
        return "" if context.store.path("weights").is_file() else "weights is missing"


@dataclass(frozen=True)
class Reads(Pass):
    name: ClassVar[str] = "reads"
    requires: ClassVar[tuple[str, ...]] = ("rank",)
    ensures: ClassVar[tuple[str, ...]] = ("epoch",)
    never: bool = False

    def run(self, context: Context) -> PassResult:
        if self.never or not context.store.path("weights").is_file():
            raise LostError("weights is damaged", "rank")
        record = EpochRecord(epoch=0, train_loss=0, held_out_accuracy=0, learning_rate=0, seconds=0, recipe="")
        context.store.put("0", record)
        return PassResult()


def test_an_option_that_decides_nothing_makes_nothing_out_of_date(context: Context) -> None:
    Pipeline([Careful(), Reads()]).run(context)
    Pipeline([Careful(hands=3), Reads()]).run(context)
    Pipeline([Careful(hands=3), Reads()]).run(context, only=["reads"])
    assert ran(context) == ["careful", "reads"]
    Pipeline([Careful(hands=3, loss=1.0), Reads()]).run(context)
    assert ran(context) == ["careful", "reads"] * 2


def test_a_run_of_an_earlier_version_is_still_finished(context: Context) -> None:
    pipeline = Pipeline([Careful(), Reads()])
    pipeline.run(context)
    record = context.store.get(PassRecord, "careful")
    assert record is not None
    # Then every option counted, also those that decide nothing, and there were fewer of them.
    then = {name: value for name, value in record.options.items() if name != "fail"}
    print_then = digest({"pass": "careful", "options": then, "inputs": {}, "base": base(context)})
    context.store.put("careful", record.model_copy(update={"options": then, "fingerprint": print_then}))
    below = {"pass": "reads", "options": {"never": False}, "inputs": {"rank": print_then}, "base": base(context)}
    reads = context.store.get(PassRecord, "reads")
    assert reads is not None
    context.store.put("reads", reads.model_copy(update={"fingerprint": digest(below)}))
    Pipeline([Careful(hands=7), Reads()]).run(context)
    assert ran(context) == ["careful", "reads"]
    with pytest.raises(UsageError, match="half done"):
        Pipeline([Careful(fail="late"), Reads()]).run(context)


@pytest.mark.parametrize(("fail", "finished"), [("at once", True), ("late", False)])
def test_a_pass_that_fails_leaves_its_result_finished_unless_it_replaced_some(
    context: Context, fail: str, finished: bool
) -> None:
    Pipeline([Careful(), Reads()]).run(context)
    with pytest.raises(UsageError):
        Pipeline([Careful(loss=1.0, fail=fail), Reads()]).run(context)
    assert (context.store.get(PassRecord, "careful") is not None) == finished
    Pipeline([Careful(), Reads()]).run(context)
    assert ran(context)[3:] == ([] if finished else ["careful"])


def test_what_is_lost_is_made_again_before_the_pass_is_skipped(context: Context) -> None:
    pipeline = Pipeline([Careful(), Reads()])
    pipeline.run(context)
    context.store.path("weights").unlink()
    pipeline.run(context)
    assert ran(context) == ["careful", "reads", "careful"]


def test_a_file_that_turns_out_to_be_lost_is_made_again_by_its_pass(context: Context) -> None:
    Pipeline([Careful(), Reads()]).run(context, only=["careful"])
    context.store.path("weights").unlink()
    Pipeline([Careful(), Reads()]).run(context, only=["reads"])
    assert ran(context) == ["careful", "reads", "careful"]
    assert Pipeline([Careful(), Reads()]).finished(Careful(), context)


def test_a_file_that_is_lost_again_at_once_ends_the_work(context: Context) -> None:
    with pytest.raises(LostError, match="weights is damaged"):
        Pipeline([Careful(), Reads(never=True)]).run(context)
    assert ran(context) == ["careful", "reads", "careful"]


def test_the_first_thing_that_is_outdated_is_named_with_the_flags(context: Context) -> None:
    Pipeline([Careful(), Reads(), Told()]).run(context)
    changed = Pipeline([Careful(loss=0.5), Reads(), Told()])
    with pytest.raises(UsageError) as error:
        changed.check(context, ["told"], " --set careful.loss=0.5")
    assert str(error.value) == (
        "told needs epoch, which is unfinished or made with other options; run pass careful first: hant-opt careful "
        f"{context.store.root} --set careful.loss=0.5 (loss 0.0 then, 0.5 now)"
    )


@dataclass(frozen=True)
class Told(Pass):
    name: ClassVar[str] = "told"
    requires: ClassVar[tuple[str, ...]] = ("epoch",)

    def run(self, context: Context) -> PassResult:
        return PassResult()
