"""Layers of torch.nn as a class name and constructor arguments, and back."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from ...errors import CaptureError, LoadError, nearest

_OPENED = (
    nn.Module,
    nn.Sequential,
    nn.ModuleList,
    nn.ModuleDict,
    nn.ParameterList,
    nn.ParameterDict,
    nn.Container,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
    nn.AdaptiveLogSoftmaxWithLoss,
    nn.DataParallel,
)
_UNSAVED = frozenset({"device", "dtype", "_weight", "_freeze", "args", "kwargs", "min_value", "max_value", "init"})
"""Constructor arguments that the file need not hold: placement, and initial values that weights replace."""
_PRESENT = {"bias": ("bias", "in_proj_bias"), "add_bias_kv": ("bias_k",)}
"""Flags that a layer keeps only as the parameter they decide on."""
_OPTIONAL = inspect.Parameter("nonlinearity", inspect.Parameter.KEYWORD_ONLY, default="tanh")
_LARGEST = 2**31


@cache
def layer_classes() -> dict[str, type[nn.Module]]:
    """Return the classes that a network file may name: the layers of torch.nn, by name."""
    return {
        name: value
        for name, value in vars(nn).items()
        if isinstance(value, type)
        and issubclass(value, nn.Module)
        and value not in _OPENED
        and not issubclass(value, nn.modules.loss._Loss)
        and "Lazy" not in name
    }


def is_plain(module: nn.Module) -> bool:
    """Return whether a module runs the forward of its class and nothing beside it: no hooks, no forward of its own."""
    return not (module._forward_pre_hooks or module._forward_hooks or "forward" in vars(module))


def _arguments(kind: type[nn.Module]) -> Mapping[str, inspect.Parameter]:
    """Return the constructor arguments of a layer's class that a file holds."""
    found = dict(inspect.signature(kind.__init__).parameters)
    unsaved = {"self", *_UNSAVED}
    if issubclass(kind, nn.RNNBase):  # whose own constructors take anything and hand it on
        found |= inspect.signature(nn.RNNBase.__init__).parameters
        found |= {"nonlinearity": _OPTIONAL} if kind is nn.RNN else {}
        unsaved |= {"mode"} if kind is nn.LSTM else {"mode", "proj_size"}
    return {name: parameter for name, parameter in found.items() if name not in unsaved}


def layer_to_json(module: nn.Module) -> dict[str, Any]:
    """Return class and arguments of a layer of torch.nn.

    Raises:
        CaptureError: not exactly such a layer, or one whose arguments cannot be read back from it.
    """
    kind = type(module)
    if layer_classes().get(kind.__name__) is not kind:
        raise CaptureError(
            f"a {kind.__module__}.{kind.__qualname__} is no layer of torch.nn and cannot be saved as data"
        )
    arguments = {}
    for name, parameter in _arguments(kind).items():
        if name in _PRESENT and not isinstance(getattr(module, name, None), bool):
            arguments[name] = any(getattr(module, held, None) is not None for held in _PRESENT[name])
        elif hasattr(module, name):
            arguments[name] = _plain(getattr(module, name))
        elif parameter.default is inspect.Parameter.empty:
            raise CaptureError(f"the argument {name!r} of a {kind.__name__} cannot be read back from it")
    made: dict[str, Any] = {"layer": kind.__name__, "arguments": arguments}
    types = {p.dtype for p in module.parameters()}
    if len(types) == 1 and types != {torch.float32}:
        made["dtype"] = str(types.pop()).removeprefix("torch.")
    _verify(module, made)
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CaptureError(f"a layer's argument of type {type(value).__name__} cannot be written as data")


def _verify(module: nn.Module, made: Mapping[str, Any]) -> None:
    """Make sure that the data make the same layer again."""
    again = layer_from_json(made)
    sizes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    if repr(again) != repr(module) or {name: t.shape for name, t in again.state_dict().items()} != sizes:
        raise CaptureError(f"the layer {module!r} was changed after it was made and cannot be saved as data")


_LATER = {"bias": True}
"""Arguments that normalisations have in a later torch -> the value with which they do what those of before do."""


def layer_from_json(data: Mapping[str, Any]) -> nn.Module:
    """Make a layer on the meta device: it holds no memory until its weights are assigned.

    Raises:
        LoadError: not a layer of torch.nn, or arguments that it does not take.
    """
    name, arguments = data.get("layer"), data.get("arguments", {})
    classes = layer_classes()
    if name not in classes:
        raise LoadError(
            f"the file names the layer {str(name)[:60]!r}, which is not one of torch.nn{nearest(str(name), classes)}"
        )
    kind = classes[name]
    known = _arguments(kind).keys()
    if isinstance(arguments, dict) and "Norm" in str(name):
        arguments = {key: value for key, value in arguments.items() if key in known or _LATER.get(key) is not value}
    if not isinstance(arguments, dict) or not arguments.keys() <= known:
        raise LoadError(f"the file gives {name} arguments it does not have: {sorted(set(arguments) - known)}")
    values = {key: _argument(value) for key, value in arguments.items()}
    dtype = getattr(torch, str(data.get("dtype", "float32")), None)
    if not isinstance(dtype, torch.dtype):
        raise LoadError(f"the file gives {name} the unknown type {data.get('dtype')!r}")
    try:
        with torch.device("meta"):
            made = kind(**values)
            return made.to(dtype) if dtype is not torch.float32 else made
    except Exception as error:  # the constructor says in its own way what it cannot take
        raise LoadError(f"cannot make the layer {name} from the file: {str(error).splitlines()[0][:200]}") from error


def _argument(value: Any, depth: int = 0) -> Any:
    if isinstance(value, list) and depth < 3 and len(value) <= 16:
        return tuple(_argument(item, depth + 1) for item in value)
    if value is None or isinstance(value, bool | float | str):
        return value
    if isinstance(value, int) and abs(value) < _LARGEST:
        return value
    raise LoadError(f"cannot read the layer argument {str(value)[:60]!r}")
