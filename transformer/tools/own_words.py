"""What a network's own error says, in one line."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch

_TORCH = str(Path(torch.__file__).parent)
_HANT = str(Path(__file__).parents[2])
_LONGEST = 200


def own_words(error: BaseException) -> str:
    """Return kind and first line of an error, with the last line of the user's code that it came through."""
    reason = (str(error).strip().splitlines() or ["no message"])[0][:_LONGEST]
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_TORCH, _HANT, "<"))
    ]
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {reason}{where}"
