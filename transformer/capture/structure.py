"""What a network computes, apart from its weights: the same for the same code and the same settings."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import HantError
from ..ir.allowed import name_of
from ..tools.nested import map_leaves
from .recording.record import record
from .recording.steps import InputDevice, PerSample, Recording, Ref, Step, StepKind, WhenTraining
from .recording.surroundings import PRIMITIVES, exact_leaf

_PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.layout, torch.memory_format, type(None), type(...))
_INSTALLED = {"site-packages", "dist-packages"}
_SYMBOLIC = (Ref, PerSample, InputDevice, WhenTraining)


def structure_digest(recording: Recording, inputs: Sequence[Any]) -> str:
    """Return a short hash of the steps of ``recording`` and of the settings of its layers.

    Weights do not count, nor what the computation does not use. Where modules of the user's own are kept whole in the
    recording, the network is recorded again on ``inputs`` with those opened, so that an edited ``forward`` shows.
    Those of installed packages are taken by their settings: recording twice takes seconds, and nobody edits them.
    """
    if any(_is_own(type(part)) for module in _modules(recording) for part in module.modules()):
        with suppress(HantError):  # then the code of what is kept whole stands for it
            recording = record(recording.model, inputs, exact_leaf)
    total = hashlib.sha256()
    for step in recording.steps:
        total.update(f"{_line(recording, step)}\n".encode())
    total.update(str(map_leaves(recording.output, _text)).encode())
    for name, tensor in (*recording.constants.items(), *_unsaved(recording)):
        total.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype};".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]


def _is_own(kind: type) -> bool:
    """Return whether a class of modules is the user's own: neither torch's nor of an installed package."""
    if kind in PRIMITIVES or kind.__module__.startswith("torch."):
        return False
    try:
        return not _INSTALLED & set(Path(inspect.getfile(kind)).parts)
    except (OSError, TypeError):  # typed into an interpreter, or made by a program
        return True


def _modules(recording: Recording) -> Iterator[nn.Module]:
    """Yield the modules that are kept whole."""
    for step in recording.steps:
        if step.kind is StepKind.MODULE:
            yield recording.model.get_submodule(str(step.target))


def _line(recording: Recording, step: Step) -> str:
    """Return a step in one line."""
    target = str(step.target)
    if step.kind in (StepKind.CALL, StepKind.ASSIGN):
        target = name_of(step.target) or _qualified(step.target)
    elif step.kind is StepKind.MODULE:
        target += _settings(recording.model.get_submodule(target))
    return f"{step.index} {step.kind} {target} {map_leaves(step.args, _text)} {map_leaves(step.kwargs, _text)}"


def _settings(module: nn.Module) -> str:
    """Return the plain attributes of a layer and of what is in it; of classes that are not torch's, the code too."""
    parts = []
    for path, part in module.named_modules():
        values = sorted((name, value) for name, value in vars(part).items() if name[0] != "_" and name != "training")
        plain = {name: value if _is_plain(value) else _text(value) for name, value in values}
        parts.append(f"{path}:{type(part).__name__}{plain}")
        if _is_own(type(part)):
            parts.append(_code(type(part)))
    return f"[{';'.join(parts)}]"


def _code(kind: type) -> str:
    """Return the source of a class, its name where there is none to be had."""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return kind.__qualname__


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    return isinstance(value, _PLAIN)


def _text(value: Any) -> str:
    """Return a leaf of the arguments as text, the same in every process."""
    if isinstance(value, WhenTraining):
        return f"training:{_text(value.value)}"
    if isinstance(value, (_PLAIN, _SYMBOLIC)):
        return repr(value)
    if isinstance(value, torch.device):
        return f"device.{value.type}"
    if callable(value):
        return _qualified(value)
    return f"<{type(value).__qualname__}>"


def _qualified(function: Any) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def _unsaved(recording: Recording) -> Iterator[tuple[str, Tensor]]:
    """Yield the buffers that the network reads and its state dict does not hold."""
    held, buffers = recording.model.state_dict(keep_vars=True), dict(recording.model.named_buffers())
    for step in recording.steps:
        name = str(step.target)
        if step.kind is StepKind.ATTRIBUTE and name in buffers and name not in held:
            yield name, buffers[name]
