"""Whether a target can run on OpenVINO here, and the properties that its file asks for."""

from __future__ import annotations

from functools import cache
from typing import Any

from ...transformer.contracts.target import Target
from ...transformer.errors import HantError, MissingExtraError
from ..measuring.machine import host, processor
from ..options import asked, check_options, thread_count

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
_CAPABILITIES = {"fp32": "FP32", "bf16": "BF16"}
_OPTIONS = ("threads",)


def api() -> Any:
    """Return the package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("openvino", "openvino", "this target") from error
    return openvino


@cache
def core() -> Any:
    """Return OpenVINO's core: it looks for devices once."""
    return api().Core()


def why_not(target: Target) -> str | None:
    """Return why this machine cannot run ``target``; None if it can."""
    try:
        able = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except HantError as error:
        return str(error)
    if target.device != "cpu":
        return f"the openvino backend has no device {target.device!r}; it has cpu"
    if target.precision not in PRECISIONS:
        return f"the openvino backend has no {target.precision}; it has {', '.join(PRECISIONS)}"
    if _CAPABILITIES[target.precision] not in able:
        return f"the processor here has no {target.precision}"
    return None


def properties(target: Target) -> dict[str, object]:
    """Return what the target's precision and ``[options]`` stand for. ``threads``: of one inference (1)."""
    check_options(target, _OPTIONS)
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": thread_count(target),
        "ENABLE_CPU_PINNING": False,  # a pinned thread waits for its core while others are idle
        "INFERENCE_PRECISION_HINT": PRECISIONS[target.precision],
    }


def provenance(target: Target) -> dict[str, str]:
    """Return what a latency on ``target`` depends on here."""
    return {
        "device": processor(),
        **host(),
        "runtime": f"openvino {api().__version__}",
        **asked(target),
    }
