"""Every flag is declared once, and a verb shows what it uses."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import hant
import pytest
from hant.transformer.cli import options
from hant.transformer.cli.app import ALL
from hant.transformer.cli.listings import options_of
from hant.transformer.pipeline.config import Config, declared
from hant.transformer.plugins import load_plugin, registered
from pydantic import BaseModel

CLI = Path(hant.__file__).parent / "transformer" / "cli"
WORDS = [kind for kind in vars(options).values() if isinstance(kind, type) and issubclass(kind, options.Command)]
KINDS: tuple[type[BaseModel], ...] = (Config, *WORDS)
BY_NAME = {verb.name: verb for verb in ALL}


def spellings(kind: type[BaseModel]) -> list[str]:
    """Return the spellings of the flags that a class itself declares."""
    own = {name: flag for name, (_, flag) in declared(kind).items() if name in kind.__annotations__}
    return [text for name, flag in own.items() for text in (flag.spelling(name), *flag.also) if text.startswith("-")]


def shown(verb: str) -> set[str]:
    return {taken.spelling for taken in BY_NAME[verb].flags() if taken.used}


def test_each_flag_has_one_declaration() -> None:
    count = Counter(text for kind in KINDS for text in spellings(kind))
    assert {text: number for text, number in count.items() if number != 1} == {
        "--output": 2,  # of ops it is a shape, not a directory
        "-o": 2,
    }


def test_the_parser_is_told_of_flags_in_one_place() -> None:
    calls = [
        f"{path.name}: {ast.unparse(node.args[-1])}"
        for path in CLI.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("Option", "Argument"))
    ]
    assert sorted(calls) == ["app.py: '--version'", "verbs.py: *self.flag.also", "verbs.py: default"]


def test_every_option_of_the_configuration_has_a_flag_with_help() -> None:
    flags = declared(Config)
    assert set(Config.model_fields) - set(flags) == {"model", "passes", "shared"}  # MODEL, --set, and what shrink says
    for kind in KINDS:
        for name, (info, _) in declared(kind).items():
            assert info.description, name


@pytest.mark.parametrize("name", [name for name, (_, flag) in declared(Config).items() if flag.handed])
def test_a_flag_names_the_passes_that_take_it(name: str) -> None:
    flag = declared(Config)[name][1]
    takers = set()
    for point in registered("hant.passes"):
        fields = {field.name for field in dataclasses.fields(load_plugin("hant.passes", point))}
        if name in fields and (flag.handed == "any" or point in flag.used_by):
            takers.add(point)
    besides = {
        "budget": {"profile", "demo"},  # a budget out of reach ends profiling
        "search": {"score", "select", "prunet", "choose", "scratch", "columns"},  # it decides which of these there are
    }
    assert takers == set(flag.used_by) - besides.get(name, set())


def test_a_verb_shows_what_it_uses() -> None:
    assert {"--epochs", "--device", "--data", "--arch", "--target", "--json"} <= shown("finetune")
    assert not {"--budget", "--solutions", "--executor", "--kit", "--max-drop"} & shown("finetune")
    assert {"--budget", "--solutions", "--max-overlap"} <= shown("select")
    assert "--epochs" not in shown("select")
    assert {"--kit", "--import", "--budget"} <= shown("profile")
    assert "--kit" not in shown("optimize")
    assert {name for name in shown("inspect") if name not in shown("optimize")} == {"--graph", "--svg"}
    assert not {"--target", "--seed", "--epochs"} & shown("inspect")
    assert shown("targets") == {"--json", "--verbose", "--quiet"}
    assert shown("ops") == {"--pool", "--input", "--output", "--json", "--verbose", "--quiet"}
    union = set().union(*(shown(verb) for verb in BY_NAME))
    assert union >= {flag.spelling(name) for name, (_, flag) in declared(Config).items()}


def test_help_shows_them_and_hides_the_rest(command: Any) -> None:
    text = re.sub(r"[│\s]+", " ", command("score", "--help").out)
    assert "--device" in text
    assert "Where training runs: auto, cpu, cuda, cuda:1." in text
    for flag in ("--budget", "--epochs", "--kit"):
        assert flag not in text


def test_a_flag_of_other_verbs_is_kept_and_told(command: Any, place: Path) -> None:
    job = "net.safetensors --arch net.py:net --input-shape 1x12x12 --target ./quick.toml --pool teacher,identity -o run"
    done = command("profile", *job.split(), "--epochs", "3", "--memory", "64")
    assert done.code == 0, done.err
    assert "profile has no use for --epochs, --memory itself; the run keeps what is said" in done.err
    assert "epochs = 3" in (place / "run" / "config.toml").read_text()
    assert command("inspect", "run", "--epochs", "3").error() == "No such option: --epochs"


def test_a_flag_that_cannot_be_kept_is_refused(command: Any) -> None:
    done = command("select", "run", "--kit", "k.zip")
    assert (done.code, done.error()) == (2, "--kit goes with profile, not select; leave it out")


def test_trust_holds_for_one_command(command: Any, place: Path) -> None:
    import torch
    from torch import nn

    torch.save(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1)), nn.Flatten()), "net.pt")
    words = ("net.pt", "--input-shape", "1x6x6", "--budget", "0.9", "--data", "digits")
    done = command("select", *words, "--trust-model", "--save-config", "c.toml", "--dry-run")
    assert done.code == 0, done.err
    assert "trust" not in Path("c.toml").read_text()
    Path("run").mkdir()
    Path("run/config.toml").write_text('model = "net.pt"\ninput_shape = ["1x6x6"]\ntrust_model = true\n')  # as of old
    assert "--trust-model" in command("inspect", "run").error()
    done = command("inspect", "run", "--trust-model")
    assert done.code == 0, done.err
    Path("c.toml").write_text("trust_model = true\n" + Path("c.toml").read_text())
    done = command("inspect", "--config", "c.toml")
    assert done.error() == "c.toml: trust_model is not taken from a file; give --trust-model with the command"


def test_the_options_of_passes_are_listed(command: Any) -> None:
    rows = {row["option"]: row for row in json.loads(command("options", "finetune", "select", "--json").out)}
    fields = {
        f"{name}.{field.name}"
        for name in ("finetune", "select")
        for field in dataclasses.fields(load_plugin("hant.passes", name))
    }
    assert set(rows) == fields
    assert rows["finetune.optimizer"] == {
        "option": "finetune.optimizer",
        "type": "str",
        "default": "sgd",
        "decides": rows["finetune.optimizer"]["decides"],
        "help": "sgd or adamw.",
    }
    assert next(row["option"] for row in options_of("baseline-ilp")) == "baseline-ilp.budget"  # inherited
    assert "unknown pass 'finetnue'; did you mean 'finetune'" in command("options", "finetnue").error()
