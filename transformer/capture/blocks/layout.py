"""What the dimensions of a recorded value mean."""

from __future__ import annotations

from torch import nn

from ....op_library.tensor_spec import Layout
from ..recording.steps import StepKind
from .flow import Flow

_FARTHEST = 40
_RESHAPES = ("reshape", "view", "flatten", "unflatten", "pad", "contiguous", "squeeze", "unsqueeze")


def layout_of(flow: Flow, value: int) -> Layout:
    """Tell the layout of a value from the nearest convolution, linear layer or norm that makes or reads it.

    Four dimensions are a channels-first map unless linear layers work on them; three are tokens.
    """
    shape = flow.steps[value].shape or ()
    if len(shape) == 3:
        return Layout.TOKENS
    if len(shape) != 4:
        return Layout.FLAT
    return _search(flow, value) or Layout.NCHW


def _search(flow: Flow, value: int) -> Layout | None:
    """Look around a value, over steps that keep its shape or at least its last dimension, nearest first."""
    queue, seen = [value], {value}
    for index in queue:
        if (found := _made_by(flow, index)) is not None:
            return found
        for user in flow.users[index]:
            if (found := _read_by(flow, user)) is not None:
                return found
        around = flow.users[index] + (flow.sources[index] if not flow.is_heavy[index] else [])
        near = [i for i in around if i not in seen and _keeps_last(flow, index, i)]
        seen.update(near)
        queue += near
        if len(queue) > _FARTHEST:
            break
    return None


def _keeps_last(flow: Flow, one: int, other: int) -> bool:
    """Return whether the last dimension means the same in two neighbouring values."""
    a, b = flow.steps[one].shape, flow.steps[other].shape
    later = flow.steps[max(one, other)]
    if not a or not b:
        return False
    return a == b or (a[-1] == b[-1] and later.name in _RESHAPES)


def _made_by(flow: Flow, index: int) -> Layout | None:
    step = flow.steps[index]
    return _layer_layout(flow, index) if step.shape is not None and step.kind is not StepKind.INPUT else None


def _read_by(flow: Flow, index: int) -> Layout | None:
    return _layer_layout(flow, index)


def _layer_layout(flow: Flow, index: int) -> Layout | None:
    step = flow.steps[index]
    if step.kind is StepKind.MODULE:
        module = flow.recording.model.get_submodule(step.target)
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.GroupNorm | nn.MaxPool2d | nn.AvgPool2d):
            return Layout.NCHW
        if isinstance(module, nn.Linear):
            return Layout.NHWC
        if isinstance(module, nn.LayerNorm) and "2d" not in type(module).__name__.lower():
            return Layout.NHWC
        return None
    if step.kind is StepKind.CALL:
        if step.name in ("conv2d", "batch_norm", "group_norm", "max_pool2d", "avg_pool2d", "interpolate"):
            return Layout.NCHW
        if step.name in ("linear", "layer_norm"):
            return Layout.NHWC
    return None
