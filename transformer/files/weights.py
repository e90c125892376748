"""Reading tensors from a file without running anything it names."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import LoadError
from .checkpoint import FORMAT, Architecture
from .pickled import checked_archive, code_named_by, is_archive

_HOLDERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "module",
    "params",
)
"""Keys that training scripts keep a state dict under; averaged weights come first."""
_EXPORTED = ("archive_format", "serialized_exported_program")
_TORCH = (".pt", ".pth", ".bin", ".ckpt", ".tar", ".th", ".pkl", ".checkpoint", "")


@dataclass(frozen=True)
class Weights:
    """The tensors of a file and what it says about their network."""

    tensors: dict[str, Tensor]
    architecture: Architecture | None = None
    arch: str = ""
    """Name of the timm model that a training checkpoint tells."""

    def untied(self, file: Path) -> dict[str, Tensor]:
        """Return the tensors with those that are stored once and held twice under each of their keys.

        Raises:
            LoadError: ``file`` ties a tensor to one that it does not hold.
        """
        tensors = dict(self.tensors)
        for key, original in (self.architecture.tied if self.architecture is not None else {}).items():
            if original not in tensors:
                raise LoadError(f"{file} ties {key!r} to {original!r}, which it does not hold; save it again")
            tensors[key] = tensors[original]
        return tensors


def read_weights(path: Path) -> Weights:
    """Read a ``.safetensors`` file or a torch file that holds nothing but data.

    Raises:
        LoadError: missing, damaged, of an unknown kind, or a file whose reading would run code, which is named.
    """
    if not path.is_file():
        raise LoadError(f"model file {path} does not exist")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix not in (*_TORCH, ".pt2"):
        raise LoadError(f"{path} is of unknown kind {path.suffix!r}; expected .safetensors, .pt, .pth, .pt2 or .onnx")
    return read_torch_file(path)


def read_torch_file(path: Path) -> Weights:
    """Read a torch file of any name that holds nothing but data.

    Raises:
        LoadError: damaged, or a file whose reading would run code, which is named.
    """
    _refuse_programs(path)
    named = code_named_by(path)
    if named:
        raise LoadError(_names_code(path, named))
    return _unpacked(path, _read_torch(path))


def _read_safetensors(path: Path) -> Weights:
    try:
        # copies: tensors inside the file's buffer are not aligned, and kernels then round differently
        tensors = {key: tensor.clone() for key, tensor in load_file(path).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise LoadError(f"{path} is damaged: {str(error)[:120]}; fetch or save it again") from error
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return Weights(tensors)
    try:
        text = beside.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"cannot read {beside}: {error}") from error
    if f'"{FORMAT}"' not in text[:200]:
        return Weights(tensors)  # someone else's description
    return Weights(tensors, Architecture.from_text(text, str(beside)))


_NOT_FETCHED = {
    b"PK": "an archive that was cut short",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself (git lfs pull)",
    b"<!DOCTYPE": "a web page, not a model",
    b"<html": "a web page, not a model",
}
"""How files begin that a download left behind, and what they are."""


def _refuse_programs(path: Path) -> None:
    """Refuse archives of programs, whose readers run or may fall back to running code."""
    if not is_archive(path):
        with path.open("rb") as file:
            start = file.read(64)
        what = next((what for sign, what in _NOT_FETCHED.items() if start.startswith(sign)), None if start else "empty")
        if what is not None:
            raise LoadError(f"{path} is {what}; fetch it again")
        if not start.startswith(b"\x80"):
            raise LoadError(f"{path} is no torch file: it starts with {start[:8]!r}; expected .pt or .safetensors")
        return
    with checked_archive(path) as archive:
        names = archive.namelist()
    if path.suffix == ".pt2" or any(mark in name for name in names for mark in _EXPORTED):
        named = code_named_by(path)
        told = f" (its pickles name {_few(named)})" if named else ""
        raise LoadError(
            f"{path} is a torch.export archive, whose reader can fall back to pickle and run code{told}; give "
            "--trust-model if you trust its maker, or a state dict with --arch"
        )


def _names_code(path: Path, names: tuple[str, ...]) -> str:
    return (
        f"{path} holds pickled objects, not only tensors: reading it would run code that it names ({_few(names)}); "
        "save it again with hant.save(model, path, example_inputs) or save model.state_dict() and give --arch, "
        "or give --trust-model if you trust its maker"
    )


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader fails in many ways on damaged files
        reason = str(error).strip().splitlines()
        raise LoadError(f"{path} cannot be read: {reason[0][:160] if reason else type(error).__name__}") from error
    _check_sizes(path, content)
    return content


def _check_sizes(path: Path, content: Any) -> None:
    """Refuse tensors that claim more values than the file has bytes for (views that repeat one value)."""
    size = path.stat().st_size
    for tensor in _tensors(content):
        if tensor.numel() * tensor.element_size() > size:
            raise LoadError(f"{path} declares a tensor of shape {tuple(tensor.shape)}, larger than the whole file")


def _tensors(content: Any, depth: int = 6) -> list[Tensor]:
    if isinstance(content, Tensor):
        return [content]
    items: Any = ()
    if depth and isinstance(content, Mapping):
        items = content.values()
    elif depth and isinstance(content, list | tuple):
        items = content
    return [tensor for item in items for tensor in _tensors(item, depth - 1)]


def _unpacked(path: Path, content: Any) -> Weights:
    """Find the state dict in what a file holds."""
    if isinstance(content, Mapping) and content.get("format") == FORMAT:
        tensors = content.get("state_dict")
        if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
            raise LoadError(f"{path} holds no weights; save it again")
        return Weights(dict(tensors), Architecture.from_text(str(content.get("architecture")), str(path)))
    arch = _told_arch(content)
    content = _held(content)
    if not isinstance(content, Mapping) or not _tensors(content, 1):
        raise LoadError(f"{path} holds no state dict but a {type(content).__name__}; save model.state_dict()")
    return Weights({str(key): t for key, t in content.items() if isinstance(t, Tensor)}, arch=arch)


def _held(content: Any, depth: int = 3) -> Any:
    """Return the state dict that a training script keeps under one of its keys, or under a key of what is there."""
    for key in _HOLDERS if isinstance(content, Mapping) and depth else ():
        inner = content.get(key)
        if isinstance(inner, Mapping) and _tensors(inner, depth):
            return _held(inner, depth - 1)
    return content


def _told_arch(content: Any) -> str:
    """Return the model's name in a timm training checkpoint."""
    if not isinstance(content, Mapping):
        return ""
    told = content.get("arch") or getattr(content.get("args"), "model", "")
    return f"timm:{told}" if isinstance(told, str) and re.fullmatch(r"[\w.]+", told) else ""
