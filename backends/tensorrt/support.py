"""Whether a target can run here, and the package that builds and runs its engines."""

from __future__ import annotations

import platform
from typing import Any

import torch

from ...transformer.contracts.target import Target
from ...transformer.errors import HantError, MissingExtraError
from ..options import asked
from .options import Flavour, read_options


def api(flavour: Flavour) -> Any:
    """Return the package of a flavour; both have one API.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        if flavour == "tensorrt-rtx":
            import tensorrt_rtx

            return tensorrt_rtx
        import tensorrt

        return tensorrt
    except ImportError as error:
        raise MissingExtraError(flavour, flavour, "this target") from error


def version(flavour: Flavour) -> tuple[int, int]:
    """Return major and minor version of the installed package."""
    major, minor, *_ = api(flavour).__version__.split(".")
    return int(major), int(minor)


def strongly_typed(flavour: Flavour) -> bool:
    """Return whether precisions come from the graph; before TensorRT 11 they were flags of the builder."""
    return flavour == "tensorrt-rtx" or version(flavour) >= (11, 0)


def cannot_build(target: Target) -> str | None:
    """Return why no engine for ``target`` can be built on this machine; None if one can."""
    try:
        options = read_options(target)
        found = version(options.flavour)
    except HantError as error:
        return str(error)
    if options.max_version:
        major, minor = (int(part) for part in options.max_version.split("."))
        if found > (major, minor):
            return (
                f"the device needs {options.flavour} {options.max_version} or older, and {found[0]}.{found[1]} is "
                f"installed; run: pip install '{options.flavour}<{major}.{minor + 1}'"
            )
    if options.flavour == "tensorrt-rtx" and options.compute_capabilities:
        return None
    return (
        None if torch.cuda.is_available() else "there is no NVIDIA GPU here, and TensorRT builds engines on their GPU"
    )


def why_not(target: Target) -> str | None:
    """Return why this machine cannot run ``target``; None if it can."""
    reason = cannot_build(target)
    if reason is not None:
        return reason
    if not torch.cuda.is_available():
        return "there is no NVIDIA GPU here; engines are built, not run"
    wanted, found = str(target.facts.get("device_name", "")), torch.cuda.get_device_name()
    if wanted not in found:
        return f"the device here is {found}, not {wanted}"
    capability = "{}.{}".format(*torch.cuda.get_device_capability())
    built = read_options(target).compute_capabilities
    if built and capability not in built:
        return f"the device here has compute capability {capability}; engines are built for {', '.join(built)}"
    return None


def provenance(target: Target) -> dict[str, str]:
    """Return what a latency on ``target`` depends on here."""
    options = read_options(target)
    has_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if has_gpu else "none",
        "system": platform.system(),
        "runtime": f"{options.flavour} {api(options.flavour).__version__}",
        "cuda": str(torch.version.cuda),
        **asked(target),
    }
