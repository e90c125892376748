"""Spaces of networks, as data: stages of layers that may each become one of several operations (PruNet, table 1)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..transformer.errors import UsageError, nearest
from ..transformer.tools.files import shipped
from ..transformer.tools.reading import read_toml

PREFIX = "space:"
"""Of what names a space wherever a model or a pool is named."""
_MOST_WIDTHS = 1024
"""Of one kind of operation in one layer: no ladder is near that."""
Skips = Literal["none", "fitting", "everywhere"]
"""Which layers may be left out: those whose input and output have one shape, convolutions among them, or all."""
_Number = Field(ge=1, le=1 << 14)


class _Stage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["conv", "efn", "efnv2"]
    kernels: dict[str, tuple[int, ...]] = Field(min_length=1)
    """By activation."""
    squeezes: tuple[float, ...] = (1.0,)
    channels: int = _Number
    stride: int = Field(default=1, ge=1, le=4)
    layers: int = Field(ge=1, le=100)


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int = _Number
    granularity: int = _Number
    expansion: int = _Number
    widths: Literal["all", "widest"] = "all"
    stem: str = Field(pattern=r".+@\d+(/[1-4])?$")
    head: str
    stages: tuple[_Stage, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Place:
    """A layer of a space."""

    family: str
    kernels: tuple[tuple[int, str], ...]
    """With the activation."""
    squeezes: tuple[float, ...]
    before: int
    """Channels of the input."""
    channels: int
    stride: int
    widths: tuple[int, ...]
    """Inner channels to choose from; none for a convolution, which has no inner channels."""

    @property
    def skips(self) -> bool:
        """Whether the layer may be left out."""
        return self.stride == 1 and self.before == self.channels

    def operations(self, widths: int | None = None) -> int:
        """Return how many operations the layer may become, with all ``widths`` or so many of them for each kind."""
        if self.family == "conv":
            return len(self.kernels)
        return len(self.kernels) * len(self.squeezes) * (len(self.widths) if widths is None else widths)

    def choices(self) -> tuple[str, ...]:
        """Return the operations by name, but for those that are the leading part of no wider one.

        An MBConv as wide as its input has no expansion layer: it could not be trained on the others' weights.
        """
        widths = [width for width in self.widths if self.family != "efn" or width != self.before]
        if self.family == "conv":
            return tuple(self._named(kernel) for kernel in self.kernels)
        kinds = [(kernel, squeeze) for kernel in self.kernels for squeeze in self.squeezes]
        return tuple(self._named(kernel, width, squeeze) for kernel, squeeze in kinds for width in widths)

    def widest(self) -> str:
        """Return the operation of the largest kernel and width as text."""
        return self._named(max(self.kernels), max(self.widths, default=0), min(self.squeezes))

    def _named(self, kernel: tuple[int, str], width: int = 0, squeeze: float = 1.0) -> str:
        (size, activation), usual = kernel, "relu" if self.family == "conv" else "silu"
        expansion = width / self.before
        inner = "" if self.family == "conv" else f"_e{expansion:g}_se{squeeze:.2f}"
        return f"{self.family}_{size}x{size}{inner}" + ("" if activation == usual else f"_{activation}")


@dataclass(frozen=True)
class Space:
    """Layers that may each become one of several operations."""

    images: int
    """Height and width of the images that it is for."""
    stem: str
    head: str
    places: tuple[Place, ...]

    def size(self, widths: int | None = None, skips: Skips = "fitting") -> int:
        """Return the number of networks, with all widths or so many of them for each kind of operation."""
        return prod(
            place.operations(widths) + (skips == "everywhere" or (skips == "fitting" and place.skips))
            for place in self.places
        )

    @property
    def widest(self) -> str:
        """The network of the largest operations as text, none of its layers left out."""
        return self.text([place.widest() for place in self.places])

    def text(self, operations: list[str]) -> str:
        """Return the network of these operations, one a place, as text; ``identity`` leaves its layer out."""
        middle = [
            f"{operation}@{place.channels}" + (f"/{place.stride}" if place.stride > 1 else "")
            for operation, place in zip(operations, self.places, strict=True)
            if operation != "identity"
        ]
        return " ".join([self.stem, *middle, self.head])

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """Operations of each place by the path of its layer in the network; ``identity`` where it may be left out."""
        return {
            f"layers.{index}": (*place.choices(), *(("identity",) if place.skips else ()))
            for index, place in enumerate(self.places, start=1)
        }


def space(name: str) -> Space:
    """Return the space called ``name``, or that of a TOML file, which holds one table as ``spaces.toml`` does several.

    Raises:
        UsageError: there is none, or the file is none.
    """
    name = name.removeprefix(PREFIX)
    where = f"space {name}"
    if name.endswith(".toml"):
        table = read_toml(Path(name), where, UsageError, f"give a space's file or one of {', '.join(_shipped())}")
    elif name in _shipped():
        table = _shipped()[name]
    else:
        raise UsageError(
            f"unknown space {name!r:.80}{nearest(name, _shipped())}; expected one of {', '.join(_shipped())}, or a "
            "TOML file"
        )
    try:
        return _made(_Table.model_validate(table))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the table"
        raise UsageError(
            f"{where}: {place}: {first['msg'].lower()}; expected a table as in op_library/spaces.toml"
        ) from error


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    return tomllib.loads(shipped(__name__, "spaces.toml"))


def _made(table: _Table) -> Space:
    places = list[Place]()
    before, step = int(table.stem.partition("@")[2].partition("/")[0]), table.granularity
    for stage in table.stages:
        kernels = tuple((kernel, activation) for activation, sizes in stage.kernels.items() for kernel in sizes)
        for again in range(stage.layers):
            widest = table.expansion * before // step * step
            if widest < step:
                raise UsageError(
                    f"the space has a layer of {before} channels without a width; give a smaller granularity"
                )
            if widest > _MOST_WIDTHS * step:
                raise UsageError(f"the space has more than {_MOST_WIDTHS} widths in a layer; give a larger granularity")
            widths = tuple(range(step if table.widths == "all" else widest, widest + 1, step))
            places.append(
                Place(
                    family=stage.family,
                    kernels=kernels,
                    squeezes=stage.squeezes,
                    before=before,
                    channels=stage.channels,
                    stride=1 if again else stage.stride,
                    widths=() if stage.family == "conv" else widths,
                )
            )
            before = stage.channels
    return Space(table.images, table.stem, table.head, tuple(places))
