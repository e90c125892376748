"""Keep the memory that tensors leave, instead of giving it back to the system after every use.

PyTorch takes the memory of tensors on a CPU from the C library. glibc gives large pieces back to the system at once,
and gets them again page by page, or keeps them, depending on what happened to be freed before: one EfficientNet-B0 took
54 or 86 ms in eager mode. That is neither fast nor a latency that can be measured.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt(3)."""
_OPTIONS = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))


@cache
def keep_memory() -> bool:
    """Let this process keep freed memory for its next tensors; return whether its C library could be told so.

    What ``MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_MMAP_MAX_=0`` in the environment does. Libraries that take the place
    of glibc's allocator, such as jemalloc, keep memory by themselves and take no notice.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in musl
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in _OPTIONS)
