"""Names of strangers on the terminal: every code in them is written out, and nothing in them is markup."""

from __future__ import annotations

import io
import json
import unicodedata

import pytest
from hant.transformer.cli.main import main
from hant.transformer.cli.progress import BarProgress, PlainProgress
from hant.transformer.cli.tables import write_line, write_table
from hant.transformer.cli.terminal import shown, shown_lines, write_json
from rich.console import Console

NASTY = "\x1b]0;owned\x07\x1b[2J\x9b31m a\nb \u202e\u2066 [/b][link=http://x]y[/link] :smile: [red]"
CODES = ("\x1b", "\x07", "\x9b", "\u202e", "\u2066")


def on_terminal() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=True, width=300, color_system=None), text


def test_every_code_is_written_out_and_every_letter_kept() -> None:
    for number in range(0x110000):
        sign = chr(number)
        if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp"):
            assert shown(sign).isascii()
            assert shown(sign).isprintable()
        elif unicodedata.category(sign)[0] in "LNPSZM":
            assert shown(sign) == sign
    assert shown("a\x1b[2J\nb\tü 日本") == "a\\x1b[2J\\nb\\tü 日本"
    assert shown_lines("a\n\tb\r\x7f") == "a\n\tb\\r\\x7f"


def test_tables_and_lines_show_names_as_they_are() -> None:
    for console, text in (on_terminal(), (Console(file=(plain := io.StringIO()), width=300), plain)):
        write_table(console, ("a [b]", NASTY), [(NASTY, "1 [m]")], right=1)
        write_line(console, NASTY)
        assert not any(code in text.getvalue() for code in CODES)
        for word in ("a [b]", "1 [m]", "[/b][link=http://x]y[/link] :smile: [red]", "\\x1b[2J\\x9b31m a\\nb"):
            assert word in text.getvalue()


def test_progress_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console, text = on_terminal()
    progress = BarProgress(console)
    with progress.task(NASTY, 2) as task:
        task.advance(1, note=NASTY)
        progress.log(NASTY)
    assert not any(code in text.getvalue().replace("\x1b[?25", "").replace("\x1b[2K", "") for code in CODES[1:])
    assert "\x1b]0;" not in text.getvalue()
    assert "[link=http://x]y[/link] :smile:" in text.getvalue()
    from hant.transformer.cli.progress import _stderr

    with PlainProgress(_stderr, every=0).task(NASTY, 1) as task:
        task.advance(note=NASTY)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert not any(code in error for code in CODES)


def test_json_holds_the_names_and_prints_no_codes(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({NASTY: [NASTY, "ü"]})
    out = capsys.readouterr().out
    assert json.loads(out) == {NASTY: [NASTY, "ü"]}
    assert "ü" in out
    assert not any(code in out for code in CODES)


def test_an_error_that_names_what_is_endless_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "x" * 100_000]) == 2
    error = capsys.readouterr().err
    assert len(error) < 2100
    assert error.startswith("hant-opt: error: ")
    assert error.count("\n") == 1


def test_errors_are_one_line_without_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", f"no{NASTY}.pt"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "\\x1b]0;owned\\x07" in error
    assert not any(code in error for code in CODES)
