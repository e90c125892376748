"""A stored configuration means the same from every working directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from hant.transformer.pipeline.config import make
from hant.transformer.pipeline.paths import anchored


def test_what_lies_there_gets_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("net.pt", "net.py", "quick.toml", "pool.toml", "classes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "pictures").mkdir()
    given = {
        "model": "net.pt",
        "arch": "./net.py:make",
        "target": "quick.toml",
        "pool": "pool.toml",
        "classes": "classes.txt",
        "data": "imagefolder:pictures?normalize=half&broken=1%",
    }
    assert anchored(make(given)) == {
        "model": f"{tmp_path}/net.pt",
        "arch": f"{tmp_path}/net.py:make",
        "target": f"{tmp_path}/quick.toml",
        "pool": f"{tmp_path}/pool.toml",
        "classes": f"{tmp_path}/classes.txt",
        "data": f"imagefolder:{tmp_path}/pictures?normalize=half&broken=1%",
    }
    (tmp_path / "really?").mkdir()
    odd = anchored(make({"data": "imagefolder:really??normalize=half"}))
    assert odd == {"data": f"imagefolder:{tmp_path}/really??normalize=half"}
    assert anchored(make({"data": "net.py:load"})) == {"data": f"{tmp_path}/net.py:load"}


def test_names_and_what_is_not_there_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("fast", "cpu-ort", "digits"):
        (tmp_path / name).touch()
    for given in (
        {"model": "timm:resnet18", "data": "digits", "pool": "fast", "target": "cpu-ort"},
        {"model": "<Net>", "arch": "package.module:make", "data": "package.module:load"},
        {"model": "none.pt", "arch": "none.py:make", "data": "cifar10:none"},
        {},
    ):
        assert anchored(make(given)) == {}
