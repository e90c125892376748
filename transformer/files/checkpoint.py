"""The self-describing checkpoint: weights, and beside them the network as plain data."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import LoadError, StorageError

FORMAT = "hant.network"
VERSION = 1
_LARGEST_TEXT = 64 * 2**20
_LARGEST_INPUT = 2**28
"""Values of one sample of an input; a larger one would take a gigabyte before anything is known of the network."""


@dataclass(frozen=True)
class Architecture:
    """What a checkpoint says about its network."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    network: dict[str, Any] | None = None
    """The network as data, see ``ir.serialize``; None where ``arch`` makes it."""
    arch: str = ""
    """Who makes the network, such as ``timm:resnet18``."""
    arch_kwargs: dict[str, Any] = field(default_factory=dict)
    input_shape: tuple[tuple[int, ...], ...] = ()
    """Of each input for one sample, such as ((3, 224, 224),)."""
    input_dtype: tuple[str, ...] = ()
    selection: dict[str, str] = field(default_factory=dict)
    """Block -> operation, for a student."""
    tied: dict[str, str] = field(default_factory=dict)
    """Key of a tensor that is not stored -> key of the tensor it is."""
    metadata: dict[str, Any] = field(default_factory=dict)

    def to_text(self) -> str:
        """Return the JSON text."""
        return json.dumps({"format": FORMAT, "version": VERSION, **vars(self)})

    @classmethod
    def from_text(cls, text: str, where: str) -> Architecture:
        """Read the JSON text.

        Raises:
            LoadError: not such a text, or of a newer version.
        """
        if len(text) > _LARGEST_TEXT:
            raise LoadError(
                f"{where} describes its network in {len(text)} characters; at most {_LARGEST_TEXT} are read"
            )
        try:
            data = json.loads(text)
            form, version = data.pop("format"), data.pop("version")
            if form != FORMAT or version != VERSION:
                raise LoadError(f"{where} has format {form!r} version {version!r}; this hant reads {FORMAT} {VERSION}")
            made: Architecture = TypeAdapter(cls).validate_python(data)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            place = ".".join(map(str, wrong["loc"]))[:60]
            raise LoadError(
                f"{where} holds no readable description of its network: {place!r}: {wrong['msg'].lower()}"
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise LoadError(f"{where} holds no readable description of its network: {str(error)[:120]}") from error
        for shape in made.input_shape:
            if min(shape, default=1) < 1 or math.prod(shape) > _LARGEST_INPUT:
                raise LoadError(f"{where} declares an input of {'x'.join(map(str, shape))[:60]}; save it again")
        return made


def write_checkpoint(path: Path, architecture: Architecture, tensors: Mapping[str, Tensor]) -> None:
    """Write ``.safetensors`` with ``.json`` beside it, or anything else as one torch file; all or nothing.

    Raises:
        StorageError: the place cannot be written.
    """
    own = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    if path.suffix == ".safetensors":
        _replace(path, lambda file: save_file(own, file, metadata={"format": "pt"}))
        text = json.dumps(json.loads(architecture.to_text()), indent=1)
        _replace(path.with_suffix(".json"), lambda file: Path(file).write_text(text + "\n"))
        return
    content = {"format": FORMAT, "version": VERSION, "architecture": architecture.to_text(), "state_dict": own}
    _replace(path, lambda file: torch.save(content, file))


def _replace(path: Path, write: Callable[[str], Any]) -> None:
    """Write a file beside ``path`` and move it there when it is safe on the disk."""
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        Path(temporary).unlink(missing_ok=True) if temporary else None
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise StorageError(f"cannot write {path}: {reason}; give another --output or make room") from error
