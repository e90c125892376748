"""Whether a target can run on ONNX Runtime here, and the session options that its file asks for."""

from __future__ import annotations

import os
import platform

import onnxruntime as ort

from ...transformer.contracts.target import Target
from ...transformer.errors import UsageError, nearest
from ..device import processor
from ..options import asked, check_options, thread_count

_LEVELS = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_OPTIONS = ("threads", "graph_optimization", "provider")
_QUIET = 3  # errors and worse


def why_not(target: Target) -> str | None:
    """Return why this machine cannot run ``target``; None if it can."""
    name = provider(target)
    if name not in ort.get_available_providers():
        return f"onnxruntime {ort.__version__} here has no {name}; install the build of onnxruntime that has it"
    if target.precision != "fp32":
        return f"the onnxruntime backend runs fp32 only, and target {target.name!r} asks for {target.precision}"
    return None


def provider(target: Target) -> str:
    """Return the execution provider of ``target``."""
    short = str(target.options.get("provider", target.device))
    if short not in _PROVIDERS:
        raise UsageError(f"target {target.name!r}: unknown provider {short!r}{nearest(short, _PROVIDERS)}")
    return _PROVIDERS[short]


def session_options(target: Target) -> ort.SessionOptions:
    """Return the options that the target's ``[options]`` stand for.

    ``threads``: intra-op threads (1). ``graph_optimization``: disable, basic, extended or all (all).
    """
    check_options(target, _OPTIONS)
    level = str(target.options.get("graph_optimization", "all"))
    if level not in _LEVELS:
        raise UsageError(f"target {target.name!r}: unknown graph_optimization {level!r}{nearest(level, _LEVELS)}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = thread_count(target)
    options.inter_op_num_threads = 1
    options.graph_optimization_level = _LEVELS[level]
    options.log_severity_level = _QUIET
    return options


def provenance(target: Target) -> dict[str, str]:
    """Return what a latency on ``target`` depends on here."""
    return {
        "device": processor(),
        "cores": str(os.cpu_count()),
        "system": platform.system(),
        "runtime": f"onnxruntime {ort.__version__}",
        "provider": provider(target),
        **asked(target),
    }
