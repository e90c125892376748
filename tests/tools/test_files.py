from __future__ import annotations

from pathlib import Path

import pytest
from hant.transformer.errors import LoadError, UsageError
from hant.transformer.tools.files import expanded
from hant.transformer.tools.reading import read_toml


def test_a_tilde_is_a_home_that_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/x") == tmp_path / "x"
    assert expanded("a/~") == Path("a/~")
    with pytest.raises(
        UsageError, match="'~nobody-here/x' names a home directory that is not known here; give the whole"
    ):
        expanded("~nobody-here/x")


def test_a_zero_byte_in_a_name_is_told() -> None:
    with pytest.raises(LoadError, match="cannot read pool: its name holds a zero byte; expected TOML"):
        read_toml(Path("a\0.toml"), "pool", LoadError)
