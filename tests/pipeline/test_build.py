from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hant.transformer.contracts.budget import Budget, Limit
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.pass_ import Pass, PassResult
from hant.transformer.errors import UsageError
from hant.transformer.pipeline.build import build_pass, build_pipeline, effective, shared_options
from hant.transformer.pipeline.config import dump, make
from hant.transformer.pipeline.default import (
    DEFAULT_PASSES,
    DESIGN_PASSES,
    ORDERS,
    PROGRAM_PASSES,
    VERBS,
    order,
    verb_of,
    verb_passes,
)
from hant.transformer.runs.fingerprint import options


@dataclass(frozen=True)
class Example(Pass):
    name: ClassVar[str] = "example"
    budget: Budget = field(default_factory=lambda: Budget(Limit(0.5, relative=True)))
    epochs: int = 7
    rate: float = 0.1
    sizes: tuple[int, ...] = (1, 2)
    include: tuple[str, ...] = ()
    note: str | None = None
    limit: Budget | None = None

    def run(self, context: Context) -> PassResult:
        return PassResult()


def test_shared_options_reach_the_fields_that_bear_their_names() -> None:
    shared = shared_options(make({"budget": "12ms", "include": "a*", "solutions": 3, "epochs": 1}))
    built = build_pass(Example, {}, shared)
    assert built == Example(budget=Budget(Limit(12.0)), include=("a*",))


def test_epochs_of_the_whole_are_those_of_finetuning_only() -> None:
    @dataclass(frozen=True)
    class Finetune(Example):
        name: ClassVar[str] = "finetune"

    shared = shared_options(make({"epochs": 0}))
    assert build_pass(Finetune, {}, shared).epochs == 0  # type: ignore[attr-defined]
    assert build_pass(Example, {}, shared).epochs == 7  # type: ignore[attr-defined]


def test_a_pass_table_wins_and_is_converted() -> None:
    table = {"rate": 1, "sizes": [3, 4], "budget": "30%", "limit": "2ms", "epochs": 2}
    built = build_pass(Example, table, shared_options(make({"budget": 0.9})))
    assert built == Example(
        rate=1.0, sizes=(3, 4), budget=Budget(Limit(0.3, relative=True)), limit=Budget(Limit(2.0)), epochs=2
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"raet": 1}, r"unknown option 'raet' of pass 'example'; did you mean 'rate'\?"),
        ({"rate": "fast"}, r"option example.rate: input should be a valid number.* \(got 'fast'\)"),
        ({"sizes": ["x"]}, r"option example.sizes: input should be a valid integer"),
        ({"budget": "fast"}, r"cannot read budget 'fast'"),
    ],
)
def test_wrong_options_are_told(table: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_pass(Example, table, {})


def test_a_table_of_an_unknown_pass_is_told() -> None:
    with pytest.raises(UsageError, match=r"unknown pass 'finetnue' in \[passes.finetnue\]; did you mean 'finetune'\?"):
        build_pipeline(make({"passes": {"finetnue": {}}}))


def test_the_default_pipeline_takes_the_configuration() -> None:
    pipeline = build_pipeline(make({"budget": 0.3, "solutions": 5, "epochs": 2}))
    assert pipeline.names == DEFAULT_PASSES
    by_name = {stage.name: stage for stage in pipeline.passes}
    assert by_name["search"].solutions == 5  # type: ignore[attr-defined]
    assert by_name["finetune"].epochs == 2  # type: ignore[attr-defined]
    for name in ("search", "rank", "report"):
        assert by_name[name].budget == Budget(Limit(0.3, relative=True))  # type: ignore[attr-defined]


def test_rank_aligns_its_finalists_by_the_options_of_align() -> None:
    pipeline = build_pipeline(make({"passes": {"align": {"teacher_share": 0.5, "mixed_precision": "bf16"}}}))
    by_name = {stage.name: stage for stage in pipeline.passes}
    assert by_name["rank"].align == by_name["align"]  # type: ignore[attr-defined]
    assert by_name["align"].teacher_share == 0.5  # type: ignore[attr-defined]
    assert "align" not in options(by_name["rank"])  # other options of align leave a finished ranking finished


def test_the_effective_configuration_makes_the_same_passes_again() -> None:
    config = make({"budget": 0.3, "solutions": 5, "passes": {"finetune": {"epochs": 2}}})
    pipeline = build_pipeline(config)
    written = effective(config, pipeline)
    again = make(tomllib.loads(dump(written)))
    assert build_pipeline(again).passes == pipeline.passes
    # A flag that is given later must still reach its passes.
    later = build_pipeline(make(again.model_dump() | {"budget": "0.6", "solutions": 9}))
    by_name = {stage.name: stage for stage in later.passes}
    assert by_name["search"].solutions == 9  # type: ignore[attr-defined]
    assert by_name["search"].budget == Budget(Limit(0.6, relative=True))  # type: ignore[attr-defined]


def test_every_pass_has_a_verb() -> None:
    assert [verb_of(name) for name in ("candidates", "rank", "perturb")] == ["profile", "rank", "design"]
    assert set().union(*(set(names) for verb, names in VERBS.items() if verb != "optimize")) == {
        *PROGRAM_PASSES,
        *DESIGN_PASSES,
    }


@pytest.mark.parametrize(
    ("stage", "option", "value"),
    [
        ("pretrain", "preset", "paper-b3"),
        ("pretrain", "mixed_precision", "fp16"),
        ("pretrain", "executor", "rya"),
        ("pretrain", "batch_size", 1),
        ("pretrain", "halving", -1),
        ("score", "samples", 0),
        ("select", "solutions", 0),
        ("select", "max_overlap", 1.5),
        ("select", "engine", "gurobi"),
        ("search", "rounds", -1),
        ("search", "images", 0),
        ("search", "solutions", 0),
        ("rank", "metric", "top1"),
        ("rank", "race", "fast"),
        ("rank", "finalists", 0),
        ("finetune", "optimizer", "adam"),
        ("finetune", "mixed_precision", "fp8"),
        ("finetune", "preload", "some"),
        ("finetune", "epochs", -1),
        ("finetune", "batch_size", 1),
        ("finetune", "learning_rate", -0.1),
        ("finetune", "learning_rate", float("nan")),
        ("finetune", "momentum", 1.0),
        ("finetune", "ema", 2),
        ("finetune", "parts", 0),
        ("verify", "samples", 0),
    ],
)
def test_values_that_no_stage_could_use_make_no_pipeline(stage: str, option: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"option {stage}\.{option}: .* \(got {value!r}\)") as caught:
        build_pipeline(make({"passes": {stage: {option: value}}}))
    if option == "optimizer":
        assert "no such value; did you mean 'adamw'? known: adamw, sgd" in str(caught.value)


def test_the_engine_of_the_search_decides_which_passes_there_are() -> None:
    linear = build_pipeline(make({"search": "linear"}))
    assert linear.names == ORDERS["linear"]
    assert "search" in linear.names
    assert not {"score", "select"} & set(linear.names)
    assert build_pipeline(make({})).names == linear.names == DEFAULT_PASSES
    assert build_pipeline(make({"search": "ilp"})).names == ORDERS["ilp"] == PROGRAM_PASSES
    assert verb_passes("search", "linear") == ("capture", "search")
    assert verb_passes("search", "ilp") == ("capture", "score", "select")
    assert verb_passes("optimize", "linear") == ORDERS["linear"]
    assert verb_passes("rank", "linear") == ("capture", "rank")
    assert verb_passes("select", "linear") == ("capture", "search")
    assert verb_passes("select", "ilp") == ("capture", "select")
    assert order("linear", verb="score")[3:6] == ("pretrain", "score", "search")
    assert order("ilp", verb="score") == PROGRAM_PASSES


def test_options_of_the_other_engine_are_kept() -> None:
    config = make({"passes": {"search": {"rounds": 2}, "select": {"fill": 0.9}}})
    kept = effective(config, build_pipeline(config)).passes
    assert kept["search"]["rounds"] == 2
    assert kept["select"] == {"fill": 0.9}
    other = config.model_copy(update={"search": "ilp"})
    stage = next(stage for stage in build_pipeline(other).passes if stage.name == "select")
    assert stage.fill == 0.9  # type: ignore[attr-defined]
