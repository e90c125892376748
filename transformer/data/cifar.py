"""CIFAR-10 (Krizhevsky 2009) from a folder, in the layouts it is handed around in.

1. ``cifar-10-batches-py``: pickled batches, as torchvision keeps them. Read with an unpickler that makes numpy arrays
   and nothing else.
2. ``cifar-10-batches-bin``: one byte of label and 3,072 of pixels an image.
3. ``cifar10-train*.npz`` and ``cifar10-test*.npz``: ``labels``, and ``sheet0``, ``sheet1``, ...: the bytes of images
   that hold many pictures of 32x32 in rows.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..contracts.data import Data
from ..errors import LoadError, UsageError
from .augmentation import CropFlip
from .images import ImageTensors, Normalization, Shape

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images (N, 3, 32, 32) and labels (N,)."""
_SIDE = 32
_SHAPE = (3, _SIDE, _SIDE)


def cifar10(root: Path, shape: Shape | None, normalization: Normalization, name: str) -> Data:
    """Return CIFAR-10 from ``root``; ``name`` is that of the normalisation.

    Raises:
        UsageError: no such folder, none of the layouts in it, or a network of another input shape.
        LoadError: a file that cannot be read.
    """
    if shape is not None and shape != _SHAPE:
        raise UsageError(f"cifar10 has images of 3x32x32, the network takes {'x'.join(map(str, shape))}")
    if not root.is_dir():
        raise UsageError(f"data cifar10: no folder {root}")
    read, train, test = _layout(root)
    parts = {}
    for part, files in (("train", train), ("test", test)):
        images, labels = zip(*(_checked(file, read) for file in files), strict=True)
        parts[part] = ImageTensors(
            torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels)), normalization
        )
    return Data(parts["train"], parts["test"], f"cifar10?normalize={name}", CropFlip(4, fill=normalization.black(3)))


def _layout(root: Path) -> tuple[Callable[[Path], Part], list[Path], list[Path]]:
    """Return how to read the files, those for training and those for testing."""
    layouts: Sequence[tuple[Callable[[Path], Part], str, str]] = (
        (_sheets, "cifar10-train*.npz", "cifar10-test*.npz"),
        (_pickled, "data_batch_[1-5]", "test_batch"),
        (_binary, "data_batch_[1-5].bin", "test_batch.bin"),
    )
    for folder in (root, root / "cifar-10-batches-py", root / "cifar-10-batches-bin"):
        for read, train, test in layouts:
            found = sorted(folder.glob(train)), sorted(folder.glob(test))
            if all(found):
                return read, *found
    raise UsageError(
        f"data cifar10: {root} holds neither cifar-10-batches-py, cifar-10-batches-bin nor cifar10-train*.npz "
        "with cifar10-test*.npz"
    )


def _checked(file: Path, read: Callable[[Path], Part]) -> Part:
    try:
        images, labels = read(file)
    except (OSError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise LoadError(f"data cifar10: cannot read {file}: {error}; get the file again") from error
    if images.shape[1:] != _SHAPE or len(images) != len(labels) or labels.min() < 0 or labels.max() > 9:
        raise LoadError(f"data cifar10: {file} does not hold images of 3x32x32 with labels 0..9; get the file again")
    return images, labels


def _sheets(file: Path) -> Part:
    images = []
    with np.load(file, allow_pickle=False) as content:
        labels = content["labels"].astype(np.int64)
        for index in range(sum(key.startswith("sheet") for key in content.files)):
            with Image.open(io.BytesIO(content[f"sheet{index}"].tobytes())) as sheet:
                pixels = np.asarray(sheet.convert("RGB"))
            rows, columns = pixels.shape[0] // _SIDE, pixels.shape[1] // _SIDE
            cells = pixels.reshape(rows, _SIDE, columns, _SIDE, 3).transpose(0, 2, 4, 1, 3)
            images.append(cells.reshape(-1, *_SHAPE))
    return np.concatenate(images), labels


def _pickled(file: Path) -> Part:
    with file.open("rb") as handle:
        content = _ArraysOnly(handle, encoding="bytes").load()
    pixels = np.asarray(content[b"data"], dtype=np.uint8)
    return pixels.reshape(-1, *_SHAPE), np.asarray(content[b"labels"], dtype=np.int64)


def _binary(file: Path) -> Part:
    rows = np.fromfile(file, dtype=np.uint8).reshape(-1, 1 + 3 * _SIDE * _SIDE)
    return rows[:, 1:].reshape(-1, *_SHAPE), rows[:, 0].astype(np.int64)


class _ArraysOnly(pickle.Unpickler):
    """Reads numpy arrays in plain containers; anything else is refused, so that no code of a file runs."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")


def _encode(text: str, encoding: str) -> bytes:
    """Return the bytes that newer Pythons write as text."""
    return text.encode(encoding)
