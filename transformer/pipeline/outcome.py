"""Whether the promise was kept: what verification recorded."""

from __future__ import annotations

from ..contracts.context import Context
from ..contracts.records import PassRecord
from ..errors import UnverifiedError


def check_outcome(context: Context) -> None:
    """Say so where the student is not verified.

    Raises:
        UnverifiedError: verification did not run, or a pass ended unverified; the message is that pass's.
    """
    passes = context.store.all(PassRecord)
    for record in passes.values():
        if record.unverified:
            raise UnverifiedError(record.unverified)
    if "verify" not in passes:
        run = context.store.root
        raise UnverifiedError(f"the student of {run} is not verified; run: hant-opt verify {run}")
