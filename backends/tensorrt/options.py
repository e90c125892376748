"""What a target's ``[options]`` ask of TensorRT."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from ...transformer.contracts.target import Target
from ...transformer.errors import UsageError, nearest
from ..options import check_options

Flavour = Literal["tensorrt", "tensorrt-rtx"]
FLAVOURS: tuple[Flavour, ...] = get_args(Flavour)
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Options:
    """The options with their defaults."""

    flavour: Flavour = "tensorrt"
    """The vendor's package, or TensorRT for RTX."""
    compute_capabilities: tuple[str, ...] = ()
    """GPUs that ``tensorrt-rtx`` builds for, such as ("8.6", "12.0"); none: the one that is here."""
    optimization_level: int = 3
    """Of the builder, 0 to 5: how long it looks for faster kernels."""
    cuda_graph: bool = True
    """Whether the network is replayed as one CUDA graph."""
    max_version: str = ""
    """Last version of the package that supports the device, such as "10.4" for Volta; none: any."""


def read_options(target: Target) -> Options:
    """Return the options of ``target``.

    Raises:
        UsageError: an option is unknown, or its value is of another type or out of range.
    """
    check_options(target, {field.name for field in fields(Options)})
    given = dict(target.options)
    if isinstance(given.get("compute_capabilities"), list):
        given["compute_capabilities"] = tuple(given["compute_capabilities"])
    options = Options(**given)
    _check(options, target)
    return options


def _check(options: Options, target: Target) -> None:
    where = f"target {target.name!r}"
    if options.flavour not in FLAVOURS:
        raise UsageError(f"{where}: unknown flavour {options.flavour!r}{nearest(str(options.flavour), FLAVOURS)}")
    if target.precision not in PRECISIONS:
        raise UsageError(f"{where}: unknown precision {target.precision!r}{nearest(target.precision, PRECISIONS)}")
    if options.optimization_level not in range(6):
        raise UsageError(f"{where}: optimization_level is {options.optimization_level!r}; expected 0 to 5")
    if not all(_is_version(text) for text in options.compute_capabilities):
        raise UsageError(f'{where}: compute_capabilities is {options.compute_capabilities!r}; expected ["8.6", ...]')
    if options.max_version and not _is_version(options.max_version):
        raise UsageError(f'{where}: max_version is {options.max_version!r}; expected such as "10.4"')


def _is_version(text: object) -> bool:
    return isinstance(text, str) and len(text.split(".")) == 2 and all(part.isdigit() for part in text.split("."))
