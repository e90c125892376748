"""HiGHS without a word: it prints its banner when it is made, before an option can forbid that (1.16)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import highspy

_ONE_AT_A_TIME = threading.RLock()
"""Two that exchange standard output at once could put the wrong one back."""


def quiet_highs() -> highspy.Highs:
    """Return a new solver that prints nothing."""
    with no_output():
        highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    return highs


@contextmanager
def no_output() -> Iterator[None]:
    """Throw away what compiled code prints on standard output meanwhile."""
    with _ONE_AT_A_TIME:
        try:
            kept = os.dup(1)
        except OSError:  # the process has no standard output
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 1)
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)
            os.close(nowhere)
