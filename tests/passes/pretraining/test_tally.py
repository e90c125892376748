from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hant.op_library.pools import operation
from hant.passes.pretraining.tally import Tally
from hant.passes.pretraining.unit import Pair
from hant.transformer.contracts.progress import Progress, Task


class Written(Progress, Task):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.done = 0

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        yield self

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count
        self.notes.append(note)

    def log(self, message: str) -> None:
        self.lines.append(message)


def test_tells_speed_time_left_families_and_blocks() -> None:
    written = Written()
    pairs: list[Pair] = [(b, operation(n)) for b in ("one", "two") for n in ("cb_res_1x1", "cb_res_3x3", "dbb_1x1")]
    tally = Tally(written, written, pairs, 10)
    tally.report(30)
    assert re.fullmatch(r"\S+ candidates/s, \d+:\d\d left", written.notes[-1])
    tally.ended(pairs[0], 0.5)
    tally.ended(pairs[1], 0.25)
    tally.ended(pairs[3], None)
    tally.report(30)
    assert re.fullmatch(r"\S+ candidates/s, 0:00 left, least error 0.25", written.notes[-1])
    assert written.done == 60
    tally.show()
    assert written.lines == [
        "pretrain: 3 of 6 candidates: cb_res 3/4 (0.25), dbb 0/2",
        "pretrain: least error by block: one 0.25",
    ]


def test_a_family_s_error_is_its_own() -> None:
    written = Written()
    pairs: list[Pair] = [("one", operation("cb_res_1x1")), ("one", operation("dbb_1x1"))]
    tally = Tally(written, written, pairs, 1)
    tally.ended(pairs[0], float("nan"))
    tally.ended(pairs[1], 0.125)
    tally.show()
    assert written.lines[0] == "pretrain: 2 of 2 candidates: cb_res 1/1, dbb 1/1 (0.125)"
