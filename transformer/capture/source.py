"""Where in the user's code an operation comes from."""

from __future__ import annotations

import os
import sys
from types import FrameType

import torch

_TORCH = os.path.dirname(torch.__file__) + os.sep
_HERE = os.path.dirname(__file__) + os.sep


def source_line() -> str:
    """Return ``file:line`` of the innermost frame that is neither torch's nor the recorder's; empty without one."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_TORCH, _HERE)):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
