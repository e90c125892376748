"""Reading a model. Nothing in a model's file is executed unless the caller trusts it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from ...op_library.structure import SuperBlockNetwork, published_names
from ..errors import LoadError, UsageError
from .assign import assign, fits_but_for_classes, retie, stripped
from .checkpoint import Architecture
from .described.serialize import network_from_json
from .factory import make_network, make_told
from .onnx_file import load_onnx
from .trusted import load_trusted
from .weights import Weights, read_torch_file, read_weights

_SHAPES: WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], ...]] = WeakKeyDictionary()
"""What files declare of networks that were read; on the network itself a user would find it in the way."""


def load(
    path: str | Path | None,
    arch: str | None = None,
    trust: bool = False,
    arch_kwargs: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return the network of a model file, in eval mode.

    1. A self-describing checkpoint (``hant.save``), or the weights ``.safetensors`` with their ``.json`` beside them.
    2. A state dict (``.safetensors``, or ``.pt`` and the like), with ``arch`` to make the network; prefixes of wrappers
       are taken off, averaged weights are preferred, the number of classes follows the weights.
    3. A timm training checkpoint: it tells its ``arch``.
    4. No file but a name: ``timm:resnet50``, as ``path`` or as ``arch``, with the library's own weights; or
       ``gpunet:1``, which has none yet.
    5. An ONNX file, as far as the converter of the extra ``onnx`` knows its operators.
    6. With ``trust`` only: a pickled module or a torch.export archive. Reading one runs code that it names.

    Args:
        path: the file or name; None to make ``arch`` alone.
        arch: ``timm:NAME``, ``torchvision:NAME``, ``package.module:factory`` or ``file.py:factory``.
        trust: read files that can run code.
        arch_kwargs: keyword arguments of the factory.

    Raises:
        LoadError: what is wrong with the file, and what can be done.
    """
    kwargs = dict(arch_kwargs or {})
    if path is None or (not Path(path).exists() and _is_name(str(path))):
        if path is not None and arch is not None:
            raise UsageError(f"both {path} and --arch {arch} name a network; give one of them")
        name = arch if path is None else str(path)
        if name is None:
            raise UsageError("no model given; give a model file, or --arch timm:resnet18")
        return make_network(name, kwargs, pretrained=True).eval()
    file = Path(path)
    if file.suffix == ".onnx":
        network, shapes = load_onnx(file)
        declare_shapes(network, shapes)
        return network
    if trust:
        trusted = load_trusted(file)
        if trusted is not None:
            with contextlib.suppress(NotImplementedError):  # an exported program has one mode only
                trusted.eval()
            return trusted
    weights = read_weights(file)
    if arch is None and weights.architecture is not None:
        return _described(file, weights, weights.architecture).eval()
    return _made(file, weights, arch, kwargs).eval()


def load_described(path: Path) -> nn.Module:
    """Return the network of a self-describing checkpoint of any name, in eval mode; the file names no code at all.

    Raises:
        LoadError: it is no such checkpoint, or is damaged.
    """
    weights = read_torch_file(path)
    if weights.architecture is None or weights.architecture.network is None:
        raise LoadError(f"{path} does not describe its network as data")
    return _described(path, weights, weights.architecture).eval()


def _is_name(path: str) -> bool:
    return path.startswith(("timm:", "torchvision:", "gpunet:", "genet:", "space:"))


def _described(file: Path, weights: Weights, architecture: Architecture) -> nn.Module:
    """Make the network that a checkpoint describes."""
    tensors = weights.untied(file)
    if architecture.network is not None:
        network = network_of(architecture.network, file)
        assign(network, tensors, file, exact=True)
        retie(network, architecture.tied)
    elif architecture.arch:
        network = make_told(architecture.arch, architecture.arch_kwargs, file, list(weights.tensors.values()))
        assign(network, tensors, file)
    else:
        raise LoadError(f"{file} does not describe its network; give --arch")
    if architecture.input_shape:
        declare_shapes(network, architecture.input_shape)
    return network


def network_of(data: dict[str, Any], file: Path) -> nn.Module:
    """Make the network that a checkpoint's data describe, on the meta device; ``file`` is for messages.

    Raises:
        LoadError: the data are damaged, or name what is not on the lists.
    """
    try:
        return network_from_json(data)
    except LoadError as error:
        raise LoadError(f"{file}: {error}") from error
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, RecursionError, RuntimeError) as error:
        raise LoadError(f"{file} holds a damaged description of its network: {str(error)[:120]}") from error


def _made(file: Path, weights: Weights, arch: str | None, kwargs: dict[str, Any]) -> nn.Module:
    """Make the network by the user's name or the file's, and give it the weights; their number of classes decides."""

    def make(**more: Any) -> nn.Module:
        if arch is not None:
            return make_network(arch, {**kwargs, **more})
        return make_told(weights.arch, {**kwargs, **more}, file, list(weights.tensors.values()))

    if arch is None and not weights.arch:
        raise LoadError(
            f"{file} holds weights but does not say of which network; give --arch timm:NAME, torchvision:NAME, "
            "genet:NAME, gpunet:NAME, package.module:factory or file.py:factory"
        )
    network = make()
    found = weights.untied(file)
    tensors = stripped(published_names(found) if isinstance(network, SuperBlockNetwork) else found, network)
    classes = fits_but_for_classes(network, tensors)
    if classes is not None and "num_classes" not in kwargs:
        with contextlib.suppress(LoadError):  # a factory without that argument: the table of shapes says what differs
            network = make(num_classes=classes)
    assign(network, tensors, file)
    if weights.architecture is not None and weights.architecture.input_shape:
        declare_shapes(network, weights.architecture.input_shape)
    return network


def declare_shapes(model: nn.Module, shapes: tuple[tuple[int, ...], ...]) -> None:
    """Remember the shapes of the network's inputs for one sample, for ``input_shapes``."""
    _SHAPES[model] = shapes


def input_shapes(model: nn.Module) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the network's inputs for one sample where its file or its library tells; else ()."""
    if model in _SHAPES:
        return _SHAPES[model]
    told = getattr(model, "pretrained_cfg", None)
    size = told.get("input_size") if isinstance(told, Mapping) else None
    return (tuple(size),) if isinstance(size, tuple | list) and len(size) == 3 else ()
