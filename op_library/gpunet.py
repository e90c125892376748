"""GPUNets as data.

A network is written as ``conv_3x3_silu@32/2 conv_3x3@32*2 efnv2_3x3_e5_se1.00_relu@32/2*2 ... conv_1x1@1280``:
operation, ``@`` output channels, ``/`` stride, ``*`` how many layers of it, of which the first alone has the stride.
``conv_KxK`` is convolution, batch norm and activation (ReLU if none is named) without a residual sum. Average pooling,
dropout and a linear layer follow.

Decided where the release is at odds with itself: convolutions have padding k // 2. The released builder pads the
strided Fused-MBConv by nothing, which its published multiply-accumulates are counted with (``released_padding``).
"""

from __future__ import annotations

import re
import tomllib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn

from ..transformer.errors import UsageError, nearest
from ..transformer.tools.files import shipped
from .op_spec import OpSpec
from .pools import parsed
from .spaces import Space
from .tensor_spec import TensorSpec

_MOST_CHANNELS, _MOST_LAYERS = 1 << 14, 200
"""Bounds on a network's text, which may come from a user: no network of vision is near them."""
_DROPOUT = 0.2


@dataclass(frozen=True)
class Layer:
    """One layer of a network."""

    operation: str
    channels: int
    """Of the output."""
    stride: int = 1

    def build(self, before: int, size: int) -> nn.Module:
        """Return the module that maps (N, before, size, size) to (N, channels, ceil(size / stride), ...)."""
        after = -(-size // self.stride)
        return _spec(self.operation).build(TensorSpec((before, size, size)), TensorSpec((self.channels, after, after)))


class GpuBlock(nn.Module):
    """A layer as a module of a class that repeats, which is captured as one block, with a residual sum or without."""

    def __init__(self, body: nn.Module) -> None:
        """Hold what the layer does."""
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Do it."""
        made: Tensor = self.body(x)
        return made


class GpuNet(nn.Module):
    """A network for images, (N, channels, H, W) to logits (N, classes)."""

    def __init__(self, text: str, classes: int = 1000, channels: int = 3, released_padding: bool = False) -> None:
        """Build the network of ``text``; ``released_padding`` pads strided Fused-MBConvs by nothing."""
        super().__init__()
        rows, before, size = [], channels, 512
        for layer in layers(text):
            module = layer.build(before, size)
            if released_padding and layer.operation.startswith("efnv2") and layer.stride > 1:
                next(part for part in module.modules() if isinstance(part, nn.Conv2d)).padding = (0, 0)
            rows.append(module)
            before, size = layer.channels, -(-size // layer.stride)
        self.layers = nn.Sequential(rows[0], *map(GpuBlock, rows[1:-1]), rows[-1])
        head = {
            "pool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "dropout": nn.Dropout(_DROPOUT),
            "fc": nn.Linear(before, classes),
        }
        self.head = nn.Sequential(OrderedDict(head))

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, classes)."""
        logits: Tensor = self.head(self.layers(images))
        return logits


class SpaceNet(GpuNet):
    """The widest network of a space, which knows what its layers may become."""

    def __init__(self, space: Space, num_classes: int = 1000, in_chans: int = 3) -> None:
        """Build it, freshly initialised."""
        super().__init__(space.widest, num_classes, in_chans)
        self.space = space


def network(name: str, num_classes: int = 1000, in_chans: int = 3, released_padding: bool = False) -> GpuNet:
    """Return the network of a published name (``0``, ``1``, ``2``, ``p0``, ``p1``) or text, freshly initialised.

    Raises:
        UsageError: no such network.
    """
    return GpuNet(_text(name), num_classes, in_chans, released_padding)


def layers(text: str) -> tuple[Layer, ...]:
    """Read a network's text.

    Raises:
        UsageError: names the part that cannot be read and what was expected.
    """
    found: list[Layer] = []
    for place, word in enumerate(text.split(), start=1):
        match = re.fullmatch(r"([a-z0-9_.]{1,64})@([1-9]\d{0,5})(?:/([1-4]))?(?:\*([1-9]\d{0,2}))?", word)
        where = f"part {place} of the network, {word!r:.80}"
        if match is None:
            raise UsageError(
                f"{where}: cannot be read; expected OPERATION@CHANNELS/STRIDE*LAYERS such as efn_3x3_e5_se1.00@256/2*3"
            )
        operation, channels, stride, count = match[1], int(match[2]), int(match[3] or 1), int(match[4] or 1)
        if channels > _MOST_CHANNELS or len(found) + count > _MOST_LAYERS:
            raise UsageError(f"{where}: expected at most {_MOST_CHANNELS} channels and {_MOST_LAYERS} layers in all")
        _spec(operation, where)
        found += [Layer(operation, channels, 1 if again else stride) for again in range(count)]
    if len(found) < 2:
        raise UsageError(f"a network of {len(found)} layers; expected at least 2, such as {published()['1']!r}")
    return tuple(found)


def _spec(name: str, where: str = "") -> OpSpec:
    spec = parsed(name)
    if spec is None or spec.derived or spec.weightless:
        raise UsageError(
            f"{where}: unknown operation {name!r}; expected conv_3x3, efn_3x3_e5_se1.00, efnv2_... or such"
        )
    return spec


def _text(name: str) -> str:
    known = published()
    text = known.get(name.strip(), name)
    if "@" not in text:
        raise UsageError(
            f"unknown network {name!r:.80}{nearest(name, known)}; expected one of {', '.join(known)}, or text such as "
            f"{known['1']!r}"
        )
    return text


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(shipped(__name__, "gpunets.toml"))


def published() -> Mapping[str, str]:
    """Return the texts of the published networks by name."""
    return {str(name): str(text) for name, text in _data()["networks"].items()}


def images(name: str) -> int:
    """Return the height and width of the images that a published network is for."""
    return int(_data()["images"][name])
