from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from hant.passes.ranking.measures import METRICS
from hant.passes.reporting.origin import changed, command, origin
from hant.transformer.cli.app import app, verbs
from hant.transformer.cli.arguments import normalise
from hant.transformer.cli.resolve import resolve
from hant.transformer.pipeline.build import build_pipeline, effective
from hant.transformer.pipeline.config import Config, make
from hant.transformer.runs.store import RunStore
from hypothesis import given, settings
from hypothesis import strategies as st

GROUP: Any = typer.main.get_command(app)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
NAMES = WORDS.filter(lambda text: not text.startswith(("-", "<")) and text not in verbs())
VALUES = st.fixed_dictionaries(
    {"model": NAMES, "output": WORDS.map("runs/{}".format), "budget": st.floats(0.01, 1).map(str)},
    optional={
        "data": NAMES,
        "limits": st.lists(st.sampled_from(["params=50%", "macs=300M"]), max_size=2),
        "max_drop": st.floats(0, 100),
        "arch_kwargs": st.dictionaries(WORDS, st.integers() | WORDS, max_size=2),
        "include": st.lists(WORDS, max_size=2),
        "epochs": st.integers(0, 300),
        "executor": st.sampled_from(["local", "ray"]),
        "workers": st.integers(1, 64),
        "memory": st.integers(1, 10**6),
        "passes": st.fixed_dictionaries(
            {},
            optional={
                "finetune": st.fixed_dictionaries({"learning_rate": st.floats(1e-6, 1), "augment": st.booleans()}),
                "rank": st.fixed_dictionaries(
                    {"metric": st.sampled_from(sorted(METRICS)), "finalists": st.integers(1, 9)}
                ),
            },
        ),
    },
)


def parsed(line: str) -> Config:
    """Return the configuration that the command would work with."""
    first, *words = shlex.split(line)
    assert first == "hant-opt"
    verb, *rest = normalise(words, verbs())
    return resolve(GROUP.commands[verb].make_context(verb, rest).params).config


def full(config: Config) -> Config:
    return effective(config, build_pipeline(config))


@settings(max_examples=15, deadline=None)
@given(VALUES)
def test_the_command_asks_for_the_same_configuration(values: dict[str, Any]) -> None:
    config = full(make(values))
    assert full(parsed(command(config.model_dump(mode="json", exclude_none=True) | {"model": config.model}))) == config


def test_defaults_are_left_out() -> None:
    assert changed("select", {"engine": "default", "fill": 0.5}) == {"fill": 0.5}
    config = full(make({"model": "net.pt", "budget": "0.45", "output": "x"}))
    assert "--set" not in command(config.model_dump(mode="json", exclude_none=True))


@pytest.mark.parametrize("values", [{}, {"model": "<Net>"}, {"model": "net.pt", "data": "<digits>"}])
def test_objects_of_a_program_cannot_be_commanded(values: dict[str, Any]) -> None:
    assert command(values) == ""


def test_a_run_without_a_configuration_has_an_origin(tmp_path: Any) -> None:
    with RunStore(tmp_path / "run") as store:
        found = origin(store)
    assert (found.command, found.configuration, found.seed) == ("", {}, 0)
    assert found.hant


def test_the_command_of_a_moved_run_names_its_new_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with RunStore("first place") as store:
        Path("first place/config.toml").write_text('model = "net.pt"\noutput = "first place"\n')
        assert shlex.split(origin(store).command) == ["hant-opt", "net.pt", "--output", "first place"]
    Path("first place").rename("second")
    with RunStore("second") as store:
        assert shlex.split(origin(store).command) == ["hant-opt", "net.pt", "--output", "second"]
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    with RunStore("../second") as store:
        assert origin(store).command.endswith(str(tmp_path / "second"))
