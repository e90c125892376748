"""Shapes of the network's inputs: ``3x224x224``, ``x:1x3x224x224`` and ``x:[1,3,224,224]``."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import UsageError

_SAMPLES = 2
"""Rows of the example inputs: with one row, a size of 1 that is not the batch would look like it."""


def parse_shape(text: str) -> tuple[int, ...]:
    """Return the shape of one sample, the batch left off.

    1. ``3x224x224``: without a name and with three sizes or less, no batch is meant.
    2. ``1x3x224x224``: four sizes are a batch and an image.
    3. ``x:1x3x224x224``, ``x:[1,3,224,224]``: behind a name, the first size is the batch.

    Raises:
        UsageError: not a shape.
    """
    name, colon, body = text.strip().rpartition(":")
    sizes = re.split(r"\s*[x,]\s*", body.strip().removeprefix("[").removesuffix("]").strip().lower())
    named = bool(colon)
    if not all(size.isdecimal() and int(size) > 0 for size in sizes) or (named and (not name or len(sizes) < 2)):
        raise UsageError(f"cannot read input shape {text!r}; expected 3x224x224, x:1x3x224x224 or x:[1,3,224,224]")
    shape = tuple(int(size) for size in sizes)
    return shape[1:] if named or len(shape) == 4 else shape


def examples(shapes: Sequence[tuple[int, ...]], seed: int = 0) -> tuple[Tensor, ...]:
    """Return standard-normal inputs of two rows for the shapes of one sample."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(_SAMPLES, *shape, generator=generator) for shape in shapes)


def text(shape: Sequence[int]) -> str:
    """Return a shape as ``3x224x224``."""
    return "x".join(str(size) for size in shape)
