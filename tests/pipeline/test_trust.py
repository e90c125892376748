"""Code that a stored configuration names runs for this user's own runs only, or when asked for by a flag."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hant.transformer.contracts.progress import Progress
from hant.transformer.errors import UsageError
from hant.transformer.pipeline.config import Config, make
from hant.transformer.pipeline.trust import SEAL, check_trust, code_named, mark_foreign, seal
from hant.transformer.runs.store import RunStore

OWN = {"arch": "net.py:net", "data": "net.py:data", "arch_kwargs": {"width": 2}}


class Log(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user of their own, in a folder with the code that the configurations name."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("net = data = None\n")
    return tmp_path / "state" / "hant"


def made(root: Path, values: dict[str, Any]) -> list[str]:
    """Make a run as a user does who gives these values; return what was told."""
    log = Log()
    with RunStore(root) as store:
        seal(store, make(values), log)
    return log.lines


def again(root: Path, values: dict[str, Any], given: dict[str, Any] | None = None) -> Config:
    """Return the configuration of a command on the run whose stored configuration has these values."""
    given = given or {}
    return mark_foreign(make({**values, **given, "output": str(root)}), root, make(values), given)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ({"arch": "os:system"}, {"arch"}),
        ({"arch": "evil.py:f", "data": "evil.py:f"}, {"arch", "data"}),
        ({"data": "os:getcwd"}, {"data"}),
        ({"data": "imagefolder.py:f"}, {"data"}),
        ({"arch": "timm:resnet18", "arch_kwargs": {"checkpoint_path": "evil.pth"}}, {"arch"}),
        ({"model": "timm:resnet18", "arch_kwargs": {"pretrained_cfg": {"file": "evil.pth"}}}, {"arch"}),
        ({"model": "weights.pt", "arch_kwargs": {"a": ["text"]}}, {"arch"}),
        ({"arch": "timm:resnet18", "arch_kwargs": {"num_classes": 3, "drop": 0.1, "sizes": [1, 2]}}, set()),
        ({"model": "m.pt", "data": "digits"}, set()),
        ({"arch": "torchvision:resnet18", "data": "imagefolder:/x?normalize=half"}, set()),
        ({"model": "<Net>", "data": "<shades>"}, set()),
    ],
)
def test_what_counts_as_code(values: dict[str, Any], options: set[str]) -> None:
    assert set(code_named(make(values))) == options


def test_ones_own_run_goes_on_wherever_it_is_moved(tmp_path: Path) -> None:
    assert made(tmp_path / "run", OWN) == []
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    shutil.move(tmp_path / "run", tmp_path / "moved")
    for name in ("copy", "moved"):
        config = again(tmp_path / name, OWN)
        assert config.foreign == ()
        check_trust(config)


@pytest.mark.parametrize(
    "change",
    [
        {"arch": "other.py:net"},
        {"arch": "net.py:other"},
        {"data": "other.py:data"},
        {"arch_kwargs": {"width": 3}},
        {"arch_kwargs": {"width": 2, "more": "x"}},
    ],
)
def test_a_seal_is_of_what_was_named_and_nothing_else(tmp_path: Path, change: dict[str, Any]) -> None:
    made(tmp_path / "run", OWN)
    with pytest.raises(UsageError, match=r"run .*run names code of its own \(arch '.*', data '.*'\), and you did not"):
        check_trust(again(tmp_path / "run", OWN | change))


def test_a_seal_is_of_the_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "models.py").write_text("build = None\n")
    for values, file in (({"arch": "net.py:net"}, "net.py"), ({"arch": "pkg.models:build"}, "pkg/models.py")):
        made(tmp_path / f"run-{Path(file).stem}", values)
        assert again(tmp_path / f"run-{Path(file).stem}", values).foreign == ()
        (tmp_path / file).write_text("import os\n")
        with pytest.raises(UsageError, match="or that code has changed since; look at it, then give --trust-run"):
            check_trust(again(tmp_path / f"run-{Path(file).stem}", values))


def test_another_user_needs_the_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "run", OWN)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "stranger"))
    for wrong in (None, "", "0" * 64, "ü", "x" * 2000):  # as it came, and forged
        if wrong is not None:
            (tmp_path / "run" / SEAL).write_text(wrong)
        with pytest.raises(UsageError, match=r"--arch net\.py:net --data net\.py:data$"):
            check_trust(again(tmp_path / "run", OWN))
    check_trust(again(tmp_path / "run", OWN, {"trust_run": True}))


def test_the_flag_is_of_one_command(tmp_path: Path, state: Path) -> None:
    config = again(tmp_path / "run", OWN, {"trust_run": True})
    with RunStore(tmp_path / "run") as store:
        seal(store, config, Log())
    assert not (tmp_path / "run" / SEAL).exists()
    assert again(tmp_path / "run", OWN).foreign == ("arch", "data")


def test_what_the_user_names_is_the_users_own(tmp_path: Path) -> None:
    theirs = {"arch": "evil.py:f", "data": "evil.py:f"}
    assert again(tmp_path, theirs, {"data": "net.py:data"}).foreign == ("arch",)
    assert again(tmp_path, theirs, {"arch": "net.py:net", "data": "digits"}).foreign == ()
    # arguments of a stranger do not go to the user's own function unseen
    assert again(tmp_path, theirs | {"arch_kwargs": {"file": "x"}}, {"arch": "net.py:net"}).foreign == ("arch", "data")


@pytest.mark.parametrize("harm", ["mode", "short", "link"])
def test_a_key_that_others_may_know_is_none(tmp_path: Path, state: Path, harm: str) -> None:
    made(tmp_path / "run", OWN)
    key = state / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_bytes()) == 32
    if harm == "mode":
        key.chmod(0o644)
    elif harm == "short":
        key.write_bytes(b"x")
    else:
        key.rename(state / "real")
        key.symlink_to(state / "real")
    with pytest.raises(UsageError, match=r"\(your key cannot be read: .*key.*\); look at it, then give --trust-run"):
        check_trust(again(tmp_path / "run", OWN))


def test_without_a_folder_of_ones_own_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    (line,) = made(tmp_path / "run", OWN)
    assert line.startswith(f"cannot keep the key of your runs in {tmp_path / 'file' / 'hant'}: ")
    assert line.endswith("this run will need --trust-run")
    with pytest.raises(UsageError, match="give --trust-run"):
        check_trust(again(tmp_path / "run", OWN))


def test_each_user_has_one_key(tmp_path: Path, state: Path) -> None:
    made(tmp_path / "a", OWN)
    key = (state / "key").read_bytes()
    made(tmp_path / "b", OWN | {"data": "digits"})
    assert (state / "key").read_bytes() == key
    assert os.listdir(state) == ["key"]
