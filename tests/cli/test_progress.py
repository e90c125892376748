from __future__ import annotations

import io

from hant.transformer.cli.progress import BarProgress, PlainProgress, progress_for
from rich.console import Console


def test_plain_lines_are_few() -> None:
    lines: list[str] = []
    progress = PlainProgress(lines.append, every=1e9)
    with progress.task("pretrain", 100) as task:
        for _ in range(100):
            task.advance(note="loss 0.5")
    assert lines == []
    progress = PlainProgress(lines.append, every=0)
    with progress.task("pretrain", 3) as task:
        task.advance(2, note="loss 0.5")
        task.advance()
    progress.log("done [bold]")
    assert lines == ["pretrain: 2/3 (loss 0.5)", "pretrain: 3/3", "done [bold]"]


def test_bars_show_nested_tasks_and_lines() -> None:
    text = io.StringIO()
    progress = BarProgress(Console(file=text, force_terminal=True, width=120))
    with progress.task("outer", 2) as outer:
        with progress.task("inner", 1) as inner:
            inner.advance(note="loss 0.5")
        progress.log("a [line]")
        outer.advance(2)
    progress.log("after")
    shown = text.getvalue()
    assert "a [line]" in shown
    assert "outer" in shown
    assert "after" in shown


def test_quiet_is_silent() -> None:
    progress = progress_for(quiet=True)
    assert not isinstance(progress, PlainProgress | BarProgress)
