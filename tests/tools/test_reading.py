"""Text of strangers: whatever is wrong with it is one line of the error that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hant.transformer.errors import LoadError
from hant.transformer.tools.reading import DEEPEST, MOST_BYTES, parse_json, parse_toml, read_toml


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_what_editors_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xef\xbb\xbf" + 'a = 1\r\nb = "ü"\r\n'.encode())
    assert read_toml(path, "x", LoadError) == {"a": 1, "b": "ü"}


@pytest.mark.parametrize("depth", [DEEPEST + 1, 500, 100_000])
def test_deep_nests_are_refused_in_both_formats(depth: int) -> None:
    for parse, text in ((parse_toml, f"x = {nested(depth)}"), (parse_json, nested(depth))):
        with pytest.raises(LoadError, match=rf"^it is nested deeper than {DEEPEST} levels; expected") as caught:
            parse(text, "it", LoadError)
        assert len(str(caught.value)) < 100
    with pytest.raises(LoadError, match="nested deeper"):
        parse_toml(".".join("a" * (DEEPEST + 1)) + " = 1", "it", LoadError)


def test_what_is_meant_may_be_nested() -> None:
    assert parse_json(nested(DEEPEST - 1), "it", LoadError)
    assert parse_toml(f"x = {nested(DEEPEST - 2)}", "it", LoadError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = " + b"9" * 5000, "is not TOML: Exceeds the limit"),
        (b"a = ", "is not TOML: Invalid value"),
        (b"\xff\xfea\x00", "not UTF-8 text"),
        (b"#" * (MOST_BYTES + 1), "larger than 16 MiB"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=message) as caught:
        read_toml(path, f"file {path}", LoadError, "give another")
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith("; give another")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="cannot read folder: Is a directory"):
        read_toml(tmp_path, "folder", LoadError)
