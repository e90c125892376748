"""From an image file to pixels that a viewer would show, and whether a file is an image at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import LoadError
from .images import Normalization, Shape

MODES = {1: "L", 3: "RGB"}
"""Pillow's modes by the number of channels."""
_DEEP = {"I": 0xFFFF, "F": 1.0}
"""Modes of more than 8 bits -> what is white, unless a pixel is above it: then the next of ``_WHITES``."""
_WHITES = (1.0, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
_SAMPLE_FORMAT, _UNSIGNED = 339, 1
"""A tag of TIFF files: Pillow reads their unsigned 32 bits as signed ones."""
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xae\x42\x60\x82"}
"""What the last bytes of a whole file hold."""
_TAIL = 64


WAYS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
"""How images can be resized."""


@dataclass(frozen=True)
class View:
    """Which part of an image a network is shown, and how it is resized."""

    crop: float | None = None
    """Share of the shorter side that is looked at; by default 0.875 for inputs of 128 pixels and more, else all."""
    interpolation: str = "bilinear"
    """One of ``WAYS``."""

    def share(self, shape: Shape) -> float:
        """Return the share of the shorter side that is looked at for inputs of ``shape`` (C, H, W)."""
        return self.crop or (0.875 if min(shape[1:]) >= 128 else 1.0)


DEFAULT = View()


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants its images, as far as it is known."""

    normalization: Normalization | None = None
    view: View = DEFAULT


UNKNOWN = Preprocessing()


def decode(file: Path, shape: Shape, view: View = DEFAULT) -> NDArray[np.uint8]:
    """Return the image as ``uint8`` (C, H, W): the shorter side resized, the centre cut out.

    Only what is looked at is resized, so an image of 60,000 x 1 pixels takes no more memory than others.

    Raises:
        LoadError: it cannot be read; the message names the file.
    """
    channels, height, width = shape
    image = read_image(file, channels)
    share = view.share(shape)
    factor = max(height / image.height, width / image.width) / share
    full = [max(side, _whole(own * factor)) for side, own in ((width, image.width), (height, image.height))]
    left, top = (round((whole - side) / 2) for whole, side in zip(full, (width, height), strict=True))
    across, down = image.width / full[0], image.height / full[1]
    box = (
        left * across,
        top * down,
        min(image.width, (left + width) * across),
        min(image.height, (top + height) * down),
    )
    seen = image.resize((width, height), Image.Resampling[view.interpolation.upper()], box=box)
    pixels: NDArray[np.uint8] = np.array(seen, dtype=np.uint8)
    return pixels.reshape(height, width, channels).transpose(2, 0, 1).copy()


def read_image(file: Path, channels: int) -> Image.Image:
    """Return the image in 8 bits a channel; 16-bit, 32-bit and float images are scaled, not clipped.

    Raises:
        LoadError: it cannot be read, or its values fit no range.
    """
    try:
        with Image.open(file) as opened:
            return (_scaled(opened) if _deep(opened) else opened).convert(MODES[channels])
    except Exception as error:  # decoders end on damaged bytes in many ways
        raise LoadError(f"data imagefolder: cannot read image {file}: {_said(error)}; replace or delete it") from error


def fault(file: Path, *, thoroughly: bool) -> str:
    """Return why the image cannot be read; empty where nothing speaks against it.

    The header and the end of the file are looked at; ``thoroughly`` reads it whole, with the checksums it has.
    """
    try:
        with Image.open(file) as image:
            checksums = image.format == "PNG"
            if image.format in _ENDS and not (thoroughly and checksums):
                doubtful = _ENDS[image.format] not in _tail(file)
            else:
                doubtful = thoroughly
            if doubtful:
                image.verify() if checksums else image.load()
    except Exception as error:
        return _said(error)
    return ""


def _deep(image: Image.Image) -> bool:
    return image.mode in _DEEP or image.mode.startswith("I;16")


def _scaled(image: Image.Image) -> Image.Image:
    """Return an image of more than 8 bits as grey of 8 bits."""
    raw = np.asarray(image)
    unsigned = raw.dtype == np.int32 and getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, (0,))[0] == _UNSIGNED
    values = (raw.view(np.uint32) if unsigned else raw).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    least = _DEEP.get(image.mode, 0xFFFF)
    white = next((white for white in _WHITES if white >= max(high, least)), None)
    if not low >= 0 or white is None:
        raise ValueError(f"its values are {low:g} to {high:g}, expected 0 to 1, 255, 65535 or what 32 bits hold")
    return Image.fromarray((values * (255 / white)).round().astype(np.uint8))


def _whole(pixels: float) -> int:
    """Return pixels rounded down, as timm and torchvision do; a little above what floats make of a whole number."""
    return int(pixels + 1e-6)


def _tail(file: Path) -> bytes:
    with file.open("rb") as handle:
        handle.seek(0, 2)
        handle.seek(max(0, handle.tell() - _TAIL))
        return handle.read()


def _said(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is no image that Pillow knows"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
