"""What TensorRT learned about kernels on this device, kept between processes in the user's cache folder.

Never in a run's folder: a run may come from elsewhere, and these files are trusted.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from ...transformer.tools.files import write_atomically
from . import support
from .options import Flavour


def cache_file(flavour: Flavour, kind: Literal["timing", "runtime"]) -> Path:
    """Return where the cache of this package version and device is."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hant"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{flavour} {support.api(flavour).__version__} {device}")
    return base / f"{name}.{kind}"


def read(path: Path) -> bytes:
    """Return the bytes of a cache; none if there is no such file."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def keep(path: Path, content: bytes) -> None:
    """Write a cache; a place that cannot be written costs time only."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)


@contextlib.contextmanager
def timing_cache(config: Any, flavour: Flavour) -> Iterator[None]:
    """Let a build use and extend the timings of builds before it. TensorRT-RTX times nothing when it builds."""
    if flavour == "tensorrt-rtx":
        yield
        return
    path = cache_file(flavour, "timing")
    cache = config.create_timing_cache(read(path))
    if not config.set_timing_cache(cache, ignore_mismatch=False):  # damaged, or the device is not what it was
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    yield
    keep(path, bytes(cache.serialize()))
