"""The pure function that stands for a recorded torch call."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from .steps import InputDevice

VALUE_READERS = frozenset(
    {"item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__complex__", "numpy", "__array__"}
)
"""Methods that hand a tensor's numbers to Python."""

_OPERATORS = {
    "__getitem__": operator.getitem,
    "__eq__": operator.eq,
    "__ne__": operator.ne,
    "__floordiv__": operator.floordiv,
    "__and__": operator.and_,
    "__or__": operator.or_,
    "__xor__": operator.xor,
    "__invert__": operator.invert,
}
_REFLECTED = {
    "__rsub__": operator.sub,
    "__rpow__": operator.pow,
    "__rdiv__": operator.truediv,
    "__rtruediv__": operator.truediv,
    "__rfloordiv__": operator.floordiv,
    "__rmatmul__": operator.matmul,
    "__rmod__": operator.mod,
}
_AUGMENTED = {
    "__iadd__": "add",
    "__isub__": "sub",
    "__imul__": "mul",
    "__itruediv__": "div",
    "__idiv__": "div",
    "__ipow__": "pow",
    "__iand__": "bitwise_and",
    "__ior__": "bitwise_or",
}
_FACTORIES = {
    "zeros_like": torch.zeros,
    "new_zeros": torch.zeros,
    "ones_like": torch.ones,
    "new_ones": torch.ones,
    "empty_like": torch.empty,
    "new_empty": torch.empty,
    "full_like": torch.full,
    "new_full": torch.full,
}

Given = tuple[tuple[Any, ...], dict[str, Any]]


def as_function(
    func: Any, given: Given, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return target, arguments and keywords of the function without side effects that computes ``result``.

    ``given`` are the arguments with references for tensors, ``args`` and ``kwargs`` the real ones. Functions that use
    a tensor only for its shape, type or device become factories, so that they tie no values together.
    """
    name = getattr(func, "__name__", "")
    own_args, own_kwargs = given
    if name == "__get__":
        return getattr, (own_args[0], func.__self__.__name__), {}
    if name in _OPERATORS:
        return _OPERATORS[name], own_args, own_kwargs
    if name in _REFLECTED:
        return _REFLECTED[name], tuple(reversed(own_args)), own_kwargs
    if isinstance(result, Tensor):
        shaped = _shape_only(name, own_args, args, kwargs, result)
        if shaped is not None:
            return shaped
    return func, own_args, own_kwargs


def out_of_place(func: Any, given: Given) -> tuple[Any | None, tuple[Any, ...], dict[str, Any]]:
    """Return the pure function of an in-place one with its arguments; None as function where torch has none."""
    name = getattr(func, "__name__", "")
    args, kwargs = given
    if kwargs.get("inplace") is True:
        return func, args, {**kwargs, "inplace": False}
    if name in _AUGMENTED:
        return getattr(torch.Tensor, _AUGMENTED[name]), args, kwargs
    if name.endswith("_") and not name.endswith("__"):
        for owner in (torch.Tensor, torch, torch.nn.functional):
            pure = getattr(owner, name[:-1], None)
            if pure is not None and hasattr(owner, name):
                return pure, args, kwargs
    return None, args, kwargs


def assigning(func: Any) -> Any:
    """Return what to run on a copy where an in-place function has no pure form."""
    return operator.setitem if getattr(func, "__name__", "") == "__setitem__" else func


def _shape_only(
    name: str, given: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor
) -> tuple[Any, tuple[Any, ...], dict[str, Any]] | None:
    shape = tuple(result.shape)
    if name in _FACTORIES and result.is_contiguous():  # the others keep the order of their tensor's memory
        filled: tuple[Any, ...] = (shape,)
        if name in ("full_like", "new_full"):
            position = 1 if name == "full_like" else 2
            value = kwargs.get("fill_value", args[position] if len(args) > position else None)
            if isinstance(value, Tensor):
                return None
            filled = (shape, value)
        return _FACTORIES[name], filled, {"dtype": result.dtype, "device": InputDevice()}
    if name == "type_as" or (name == "to" and len(args) > 1 and isinstance(args[1], Tensor)):
        return torch.Tensor.to, (given[0], result.dtype), {}
    if name == "expand_as":
        return torch.Tensor.expand, (given[0], shape), {}
    if name in ("view_as", "reshape_as"):
        return torch.Tensor.reshape, (given[0], shape), {}
    return None
