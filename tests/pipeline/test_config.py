from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hant.transformer.contracts.budget import Budget, Limit
from hant.transformer.errors import LoadError, UsageError
from hant.transformer.pipeline.config import FILE, Config, dump, make, merge, read, read_stored


def test_a_dump_reads_back_the_same() -> None:
    config = make(
        {
            "model": "a \"b\".pt",
            "budget": 0.45,
            "limits": ["params=50%"],
            "arch_kwargs": {"width": 2, "names": ["x"]},
            "passes": {"finetune": {"rate": 0.1, "steps": [1, 2]}},
        }
    )  # fmt: skip
    assert make(tomllib.loads(dump(config))) == config


def test_trust_is_never_written_and_never_read(tmp_path: Path) -> None:
    trusting = make({"trust_model": True, "trust_run": True})
    assert trusting.trust_model
    assert dump(trusting) == dump(Config())
    for name, flag in (("trust_model", "--trust-model"), ("trust_run", "--trust-run")):
        (tmp_path / FILE).write_text(f"seed = 3\n{name} = true\n")
        with pytest.raises(UsageError, match=rf"{FILE}: {name} is not taken from a file; give {flag} with the command"):
            read(tmp_path / FILE)
        assert read_stored(tmp_path) == {"search": "ilp", "seed": 3}  # a run of before there was a choice


def test_defaults_read_back_too() -> None:
    assert make(tomllib.loads(dump(Config()))) == Config()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bugdet": "0.4"}, r"^here: unknown option 'bugdet'; did you mean 'budget'\?"),
        ({"budget": True}, r"^here: budget: input should be a valid string \(got True\)"),
        ({"batch_size": 0}, r"^here: batch_size: input should be greater than or equal to 1 \(got 0\)"),
        ({"executor": "slurm"}, r"^here: executor: input should be 'local' or 'ray'"),
        ({"max_overlap": 1.5}, r"^here: max_overlap: input should be less than or equal to 1"),
        ({"seed": "x"}, r"^here: seed: input should be a valid integer.*got 'x'"),
        ({"passes": {"select": 3}}, r"^here: passes.select: input should be a valid dictionary"),
    ],
)
def test_wrong_values_are_told(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(values, "here")


def test_later_layers_win_and_tables_are_merged() -> None:
    merged = merge(
        {"seed": 1, "passes": {"a": {"x": 1, "y": 1}, "b": {"z": 1}}},
        {"seed": 2, "passes": {"a": {"x": 2}}},
    )
    assert merged == {"seed": 2, "passes": {"a": {"x": 2, "y": 1}, "b": {"z": 1}}}


def test_one_value_stands_for_a_list_of_one() -> None:
    assert make({"include": "layer1.*", "input_shape": "3x4x4"}).include == ("layer1.*",)


def test_the_budget_holds_the_limits() -> None:
    budget = make({"budget": 0.5, "limits": "params=50%"}).parsed_budget()
    assert budget == Budget(Limit(0.5, relative=True), (("params", Limit(0.5, relative=True)),))
    assert make({}).parsed_budget() is None
    with pytest.raises(UsageError, match="--limit needs a --budget too"):
        make({"limits": "params=50%"}).parsed_budget()


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"no configuration file .*x.toml; --save-config"):
        read(tmp_path / "x.toml")
    (tmp_path / "x.toml").write_text("budget = ")
    with pytest.raises(LoadError, match=r"configuration .*x.toml is not TOML: Invalid value .*; expected TOML"):
        read(tmp_path / "x.toml")
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(LoadError, match="expected TOML"):
        read(tmp_path / "x.toml")
