"""Writing a network so that it can be read again without running code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..capture.levels import as_levels
from ..capture.verify import verify_same
from ..errors import CaptureError, LoadError, UsageError
from ..tools.wrappers import unwrapped
from .checkpoint import Architecture, write_checkpoint
from .described.serialize import network_from_json, network_to_json


def save(
    model: nn.Module,
    path: str | Path,
    example_inputs: Tensor | Sequence[Tensor] | None = None,
    *,
    arch: str | None = None,
    arch_kwargs: Mapping[str, Any] | None = None,
    selection: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a self-describing checkpoint: weights, and the network as plain data.

    ``NAME.safetensors`` gets ``NAME.json`` beside it; any other name becomes one file that
    ``torch.load(path, weights_only=True)`` reads. ``hant.load`` makes the network again from either.

    Args:
        model: the network; left as it was.
        path: where to; written whole or not at all.
        example_inputs: tensors (B, ...) to record the network with. Needed unless the network consists of torch.nn
            layers in containers and fx graphs, or ``arch`` is given.
        arch: who can make the network, such as ``timm:resnet18``; saved instead of the network.
        arch_kwargs: arguments for that.
        selection: block -> operation, for a student.
        metadata: further JSON data to keep.

    Raises:
        CaptureError: the network cannot be written as data, with the module and operation that stands in the way.
        StorageError: the file cannot be written.
    """
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs or ())
    if not all(isinstance(tensor, Tensor) for tensor in inputs):
        raise UsageError("example_inputs must be a tensor or a sequence of tensors; give torch.randn(1, 3, 224, 224)")
    model = unwrapped(model)
    network = model if arch is not None else _as_data(model, inputs)
    tensors, tied = _untied(network)
    architecture = Architecture(
        network=None if arch is not None else _readable(network_to_json(network)),
        arch=arch or "",
        arch_kwargs=dict(arch_kwargs or {}),
        input_shape=tuple(tuple(t.shape[1:]) for t in inputs),
        input_dtype=tuple(str(t.dtype).removeprefix("torch.") for t in inputs),
        selection=dict(selection or {}),
        tied=tied,
        metadata=dict(metadata or {}),
    )
    write_checkpoint(Path(path), architecture, tensors)


def _as_data(model: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    if not inputs:
        try:
            network_to_json(model)
        except CaptureError as error:
            raise UsageError(f"saving this network needs example_inputs, to record it with: {error}") from error
        return model
    remedy = "save it with arch=... instead"
    try:
        network = as_levels(model, inputs)
        verify_same(model, network, inputs, remedy)
    except RecursionError as error:
        raise CaptureError(f"the network's modules are nested too deep to be saved as data; {remedy}") from error
    return network


def _readable(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data, of which the network can be made again.

    Raises:
        CaptureError: they hold what a reader refuses, such as an odd name or a nest that is too deep.
    """
    try:
        network_from_json(data)
    except (LoadError, RecursionError) as error:
        raise CaptureError(f"the network cannot be saved as data: {error}; save it with arch=... instead") from error
    return data


def _untied(network: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return each tensor once, and under which key the others of the same memory are found."""
    tensors: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    first: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    for key, tensor in network.state_dict().items():
        if not isinstance(tensor, Tensor):
            continue  # extra state of a module, which a file of tensors cannot hold
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() and place in first:
            tied[key] = first[place]
        else:
            first[place] = key
            tensors[key] = tensor
    return tensors, tied
