"""Standard output is for the result alone: what libraries print meanwhile goes to standard error."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def result_only() -> Iterator[None]:
    """Send everything that is printed inside, also by compiled code, to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def hushed(verbose: int) -> Iterator[None]:
    """Hide the warnings of libraries meanwhile, unless the user asked for more."""
    if verbose:
        yield
        return
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
