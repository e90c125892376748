"""A run that came from somebody else: it can be looked at, and nothing of it runs, leads elsewhere or ends as a bug."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from hant.passes.candidates.records import OperationRecord
from hant.passes.capturing.inspection import FILE as NETWORK
from hant.passes.ranking.records import WinnerRecord
from hant.tests.files.test_strings import payloads, replaced, strings
from hant.transformer.runs.records import PassRecord
from hant.transformer.runs.store import RunStore

CANARY = "open('canary', 'w').close()\n"


@pytest.fixture(scope="module")
def finished(small_run: Path) -> Path:
    """A directory with a finished run ``run``."""
    return small_run


@pytest.fixture
def stranger(job: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run in the hands of another user, whose code it names runs as soon as it is imported."""
    monkeypatch.setenv("XDG_STATE_HOME", str(job / "state"))
    code = (job / "net.py").read_text()
    (job / "net.py").write_text(CANARY + code)
    config = job / "run" / "config.toml"
    config.write_text(config.read_text().replace(str(finished), str(job)))
    return job


class Gadget:
    def __reduce__(self) -> Any:
        return (open, ("canary", "w"))


def rewritten(place: Path, **changes: str) -> None:
    """Say something else in the run's configuration, as TOML."""
    path = place / "run" / "config.toml"
    lines = [line for line in path.read_text().splitlines() if line.partition(" ")[0] not in changes]
    path.write_text("\n".join([*(f"{name} = {value}" for name, value in changes.items()), *lines]))


def test_report_and_inspect_need_neither_model_nor_data(stranger: Path, command: Any) -> None:
    for name in ("net.py", "net.safetensors", "quick.toml"):
        (stranger / name).unlink()
    done = command("report", "run")
    assert done.code in (0, 4)
    assert "report: up to date" in done.err
    assert "blocks.0" in done.out
    assert json.loads(command("report", "run", "--json").out) == json.loads((stranger / "run/report.json").read_text())
    told = command("inspect", "run")
    assert told.code == 0
    assert "2 replaceable blocks of 4 hold" in told.out
    assert [row["name"] for row in json.loads(command("inspect", "run", "--json").out)["blocks"]][1:3] == [
        "blocks.0",
        "blocks.1",
    ]


@pytest.mark.parametrize(
    "words", [["search", "run"], ["report", "run", "--dry-run"], ["inspect", "run", "--graph"], ["pareto", "run"]]
)
def test_code_of_a_stranger_runs_with_the_flag_only(stranger: Path, command: Any, words: list[str]) -> None:
    before = (stranger / "run" / "config.toml").read_bytes()
    done = command(*words)
    assert done.code == 2
    code = stranger / "net.py"
    assert done.error().startswith(
        f"run run names code of its own (arch '{code}:net', data '{code}:data'), and you did"
    )
    assert done.error().endswith(f"for good: --arch {code}:net --data {code}:data")
    assert not (stranger / "canary").exists()
    assert (stranger / "run" / "config.toml").read_bytes() == before
    assert command(*words, "--trust-run").code in (0, 4)
    assert (stranger / "canary").exists()
    assert command(*words).code == 2  # the flag is of one command


@pytest.mark.parametrize("verb", ["report", "inspect", "select", "pareto", "verify"])
@pytest.mark.parametrize(
    "changes",
    [
        {"arch": '"subprocess:check_output"', "arch_kwargs": '{args = ["touch", "canary"]}'},
        {"data": '"run/evil.py:f"'},
        {"model": '"run/m.pt"', "trust_model": "true", "trust_run": "true", "arch": '""', "data": '"digits"'},
    ],
)
def test_nothing_that_a_configuration_names_runs(job: Path, command: Any, verb: str, changes: dict[str, str]) -> None:
    torch.save(Gadget(), job / "run" / "m.pt")
    (job / "run" / "evil.py").write_text(CANARY)
    rewritten(job, **changes)
    done = command(verb, "run")
    assert done.code in (0, 2, 4)
    if verb not in ("report", "inspect"):
        assert "--trust-run" in done.error() or "--trust-model" in done.error()
    assert not (job / "canary").exists()


def attacks(place: Path, text: str, most: int, chance: random.Random) -> Iterator[Any]:
    """Yield the data of a TOML or JSON text with one after the other of ``most`` strings replaced by an attack."""
    data = json.loads(text) if text.startswith("{") else tomllib.loads(text)
    texts = [*payloads(place), "a\0b", "imagefolder:a\0b", "~nobody-here/x.py:f", "run/x.toml", "x" * 5000]
    count = strings(data)
    for number in chance.sample(range(count), min(most, count)):
        yield replaced(data, number, chance.choice(texts))


@pytest.mark.parametrize("most", [20, pytest.param(10**6, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("verb", "file"), [("report", "report.json"), ("inspect", NETWORK), ("search", "config.toml")])
def test_strings_of_a_run_are_told_or_taken(job: Path, command: Any, verb: str, file: str, most: int) -> None:
    path, chance, ends = job / "run" / file, random.Random(verb), set()
    text = path.read_text()
    kept = job / "kept"
    shutil.copytree(job / "run", kept)
    for changed in attacks(job, text, most, chance):
        path.write_text(json.dumps(changed) if text.startswith("{") else tomli_w.dumps(changed))
        done = command(verb, "run")
        assert done.code in (0, 2, 4), (changed, done.err)
        if done.code == 2:
            assert len(done.error().splitlines()) == 1
        ends.add(done.code)
        assert not (job / "canary").exists(), changed
        if verb == "search":
            shutil.rmtree(job / "run")
            shutil.copytree(kept, job / "run")
    assert 2 in ends


def test_ones_own_run_goes_on_where_it_was_copied(job: Path, command: Any) -> None:
    shutil.copytree("run", "copy")
    assert command("search", "copy", "--quiet").code == 0
    assert "trust" not in (job / "copy" / "config.toml").read_text()


def test_a_link_is_refused_before_the_configuration_is_read(job: Path, command: Any) -> None:
    (job / "real.toml").write_bytes((job / "run" / "config.toml").read_bytes())
    (job / "run" / "config.toml").unlink()
    (job / "run" / "config.toml").symlink_to(job / "real.toml")
    for verb in ("report", "inspect", "select"):
        assert "config.toml is a link, and links inside a run are not followed" in command(verb, "run").error()


def choose_nothing(store: RunStore) -> str:
    winner = store.get(WinnerRecord, "winner")
    assert winner is not None
    store.put("winner", winner.model_copy(update={"choice": {}}))
    return "record winner winner chooses for 0 blocks, and the run has 2"


def choose_what_is_not_there(store: RunStore) -> str:
    winner = store.get(WinnerRecord, "winner")
    assert winner is not None
    store.put("winner", winner.model_copy(update={"choice": {"blocks.0": "teacher", "zz": "identity"}}))
    return "record winner winner chooses identity for zz, which does not fit there"


def absurd(store: RunStore) -> str:
    key, record = next(iter(store.all(OperationRecord).items()))
    store.put(key, record.model_copy(update={"macs": -5}))
    choose_nothing(store)
    return f"record operation {key}: macs is -5"


@pytest.mark.parametrize("forge", [choose_nothing, choose_what_is_not_there, absurd])
def test_records_that_do_not_fit_each_other_are_no_bug(
    job: Path, command: Any, forge: Callable[[RunStore], str]
) -> None:
    with RunStore(job / "run") as store:
        what = forge(store)
        store.delete(PassRecord, "report")
    done = command("report", "run", "--max-drop", "99")
    assert done.code == 2
    assert done.error().startswith(f"run run is damaged or was changed by something else than hant: {what} (")
    assert done.error().endswith("put a good copy of the run there, or choose a new --output")


@pytest.mark.parametrize("name", ["report.json", NETWORK])
@pytest.mark.parametrize("content", ["[" * 100_000, "{}", '{"version": 1', "null", "\x00"])
def test_a_damaged_file_of_the_run_is_one_line(job: Path, command: Any, name: str, content: str) -> None:
    (job / "run" / name).write_text(content)
    done = command("report" if name == "report.json" else "inspect", "run")
    assert done.code == 2
    assert done.error().startswith(f"run/{name} is damaged: ")


def test_a_crash_is_logged_beside_a_link_and_not_through_it(job: Path, command: Any) -> None:
    victim = job / "victim"
    victim.write_text("precious")
    for name in ("victim", "missing"):
        (job / "run" / "hant-crash.log").unlink(missing_ok=True)
        (job / "run" / "hant-crash.log").symlink_to(job / name)
        with contextlib.suppress(AssertionError):
            command("search", "run")
    assert victim.read_text() == "precious"
    assert not (job / "missing").exists()
