"""Random seeds that follow from names, never from the order of work."""

from __future__ import annotations

import hashlib


def derived_seed(seed: int, *names: str) -> int:
    """Return the seed of what ``names`` say, the same whatever was done before."""
    text = "/".join([str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
