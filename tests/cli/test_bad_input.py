"""Bad input of any kind: one line that says what, where, what was expected and what to do; nothing half-written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

NET = "net.safetensors --arch net.py:net --data net.py:data --budget 0.9 -o run"


def cut(path: Path) -> None:
    path.with_name("cut.safetensors").write_bytes(path.read_bytes()[:-100])


def pickle(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path.with_name("pickle.pt"))


def file(name: str, text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.with_name(name).write_text(text)

    return write


def clutter(path: Path) -> None:
    (path.parent / "run").mkdir()
    (path.parent / "run" / "photo.jpg").write_text("")


CASES: dict[str, tuple[str, str, Callable[[Path], Any] | None]] = {
    "no file": (
        NET.replace("net.saf", "nosuch.saf"),
        "model nosuch.safetensors does not exist; expected",
        None,
    ),
    "no model": ("--budget 0.9 --data digits", "no model given; give a model file, or --arch", None),
    "directory": (NET.replace("net.safetensors", "."), "model . is a directory without a run in it; expected", None),
    "cut file": (NET.replace("net.saf", "cut.saf"), r"cut\.safetensors", cut),
    "empty file": (
        NET.replace("net.saf", "empty.saf"),
        r"empty\.safetensors",
        lambda path: path.with_name("empty.safetensors").touch(),
    ),
    "random bytes": (
        "noise.pt --data net.py:data --budget 0.9 -o run",
        r"noise\.pt",
        lambda path: path.with_name("noise.pt").write_bytes(os.urandom(500)),
    ),
    "pickle": ("pickle.pt --data net.py:data --budget 0.9 -o run", "--trust-model", pickle),
    "no architecture": ("net.safetensors --data net.py:data --budget 0.9 -o run", "--arch", None),
    "architecture of no file": (NET.replace("net.py:net", "nosuch.py:net"), r"nosuch\.py", None),
    "architecture of no function": (NET.replace("net.py:net", "net.py:nett"), "nett", None),
    "other architecture": (NET + ' --arch-kwargs {"width":4}', "net.safetensors", None),
    "input shape": (NET + " --input-shape 3x12x12", "the network takes 3x12x12|does not take inputs of 3x12x12", None),
    "input shape text": (NET + " --input-shape 3by4", "cannot read input shape '3by4'; expected 3x224x224", None),
    "target": (NET + " --target cpu-rot", "unknown target 'cpu-rot'; did you mean 'cpu-ort'", None),
    "target file": (NET + " --target t.toml", r"cannot read target file t\.toml: No such file", None),
    "backend": (
        NET + " --target ./t.toml",
        "unknown backend 'onnxruntimes'; did you mean 'onnxruntime'",
        file("t.toml", 'name = "t"\nbackend = "onnxruntimes"\n'),
    ),
    "pool": (NET + " --pool fats", "unknown .*'fats'; did you mean 'fast'", None),
    "operation": (NET + " --pool teacher,efn_3x3_e6_se", "efn_3x3_e6_se'.* did you mean 'efn_3x3_e6_se", None),
    "pass": (NET + " --set finetnue.epochs=3", r"unknown pass 'finetnue' .*did you mean 'finetune'", None),
    "pass option": (NET + " --set finetune.epohcs=3", "unknown option 'epohcs' of pass 'finetune'; did you mean", None),
    "pass option value": (NET + " --set finetune.epochs=many", r"option finetune\.epochs: .* \(got 'many'\)", None),
    "flag": (NET + " --bugdet 0.5", "No such option: --bugdet", None),
    "flag value": (NET + " --seed x", "Invalid value for '--seed'", None),
    "budget": (NET.replace("0.9", "fast"), "cannot read budget 'fast'; expected a ratio such as 0.45", None),
    "budget over 1": (NET.replace("0.9", "45"), "budget '45' is above the teacher's own latency", None),
    "no budget": (NET.replace("--budget 0.9", ""), "optimize needs a budget; give --budget 0.45", None),
    "limit": (NET + " --limit params", "cannot read limit 'params'", None),
    "no data": (NET.replace("--data net.py:data", ""), "optimize needs data; give --data digits", None),
    "data": (NET.replace("net.py:data", "digist"), "unknown data 'digist', .* did you mean 'digits'", None),
    "data of no function": (NET.replace("net.py:data", "net.py:dat"), "'dat'|net.py:dat", None),
    "data of no file": (NET.replace("net.py:data", "nosuch.py:data"), r"nosuch\.py", None),
    "device": (NET + " --device cdua", "unknown device 'cdua'; expected auto, cpu, cuda", None),
    "include": (NET + " --include nosuch.*", r"nosuch\.\*", None),
    "no block": (NET.replace("net.safetensors --arch net.py:net", "--arch net.py:bare"), "block", None),
    "configuration": (NET + " --config c.toml", r"no configuration file c\.toml; --save-config", None),
    "configuration text": (
        NET + " --config c.toml",
        r"configuration c\.toml is not TOML: .*; expected TOML",
        file("c.toml", "x = "),
    ),
    "configuration option": (
        NET + " --config c.toml",
        "c.toml: unknown option 'sede'; did you mean 'seed'",
        file("c.toml", "sede=1"),
    ),
    "resume": (NET + " --resume", "--resume: there is no run at run; leave --resume out to begin one", None),
    "output": (NET, "run is not empty and not a run of hant; give another --output", clutter),
    "output that is a file": (
        NET.replace("-o run", "-o net.py"),
        r"--output net\.py is a file; give the name of a fol",
        None,
    ),
    "output of a dry run": (
        NET.replace("-o run", "-o net.py --dry-run"),
        r"--output net\.py is a file; give the",
        None,
    ),
    "verb": ("optimise " + NET, "'optimise' is no model, no run and no verb; did you mean 'optimize'", None),
    "output in a file": (NET.replace("-o run", "-o net.py/run"), "net.py/run: Not a directory", None),
}


@pytest.mark.parametrize(("words", "message", "prepare"), CASES.values(), ids=CASES.keys())
def test_bad_input_is_told_in_one_line(
    command: Any, place: Path, words: str, message: str, prepare: Callable[[Path], Any] | None
) -> None:
    if prepare is not None:
        prepare(place / "net.safetensors")
    before = sorted(place.rglob("*"))
    done = command(*words.split())
    assert re.search(message, done.error()), done.error()
    assert done.code == 2
    assert done.out == ""
    made = [path for path in sorted(place.rglob("*")) if path not in before and "__pycache__" not in str(path)]
    assert {path.name for path in made} <= {
        "run",
        "run.sqlite",
        "run.sqlite-wal",
        "run.sqlite-shm",
        ".lock",
        "config.toml",
        "run.seal",
        "network.json",
    }


def test_a_bug_is_told_in_one_line_with_the_place_of_its_traceback(command: Any, place: Path) -> None:
    """A data set of the user that fails in the middle stands for any code that fails."""
    words = NET.replace("net.py:data", "net.py:broken").split()
    done = command("pretrain", *words)
    assert done.code == 2  # not yet profiled
    (place / "quick.toml").write_text('name = "q"\nbackend = "onnxruntime"\n[protocol]\nrounds = 2\nmax_rounds = 2\n')
    quick = ("--target", "./quick.toml", "--pool", "teacher,efn_3x3_e1_se1.00")
    assert command("profile", *words, *quick).code == 0
    done = command("pretrain", "run")
    assert done.code == 1
    assert re.search("ZeroDivisionError: .*; the traceback is in run/hant-crash.log$", done.error()), done.error()
    assert "ZeroDivisionError" in (place / "run" / "hant-crash.log").read_text()
    done = command("pretrain", "run", "-vv")
    assert "Traceback" in done.err
