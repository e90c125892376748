"""Whether a target can run on ONNX Runtime here, and the session options that its file asks for."""

from __future__ import annotations

from typing import Any

import onnxruntime as ort

from ...transformer.contracts.target import Target
from ...transformer.errors import UsageError, nearest
from ..options import asked, check_options, thread_count
from . import session

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_OPTIONS = ("threads", "graph_optimization", "provider")


def why_not(target: Target) -> str | None:
    """Return why this machine cannot run ``target``; None if it can."""
    reason = session.missing(provider(target))
    if reason is not None:
        return reason
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
    """Return the options that the target's ``[options]`` stand for."""
    asked_for = settings(target)
    return session.session_options(asked_for["threads"], asked_for["graph_optimization"])


def settings(target: Target) -> dict[str, Any]:
    """Return what the target's ``[options]`` stand for.

    ``threads``: intra-op threads (1). ``graph_optimization``: disable, basic, extended or all (all). ``provider``:
    the execution provider's full name.

    Raises:
        UsageError: an option is unknown, or its value is.
    """
    check_options(target, _OPTIONS)
    level = str(target.options.get("graph_optimization", "all"))
    if level not in session.LEVELS:
        raise UsageError(
            f"target {target.name!r}: unknown graph_optimization {level!r}{nearest(level, session.LEVELS)}"
        )
    return {"threads": thread_count(target), "graph_optimization": level, "provider": provider(target)}


def provenance(target: Target) -> dict[str, str]:
    """Return what a latency on ``target`` depends on here."""
    return {**session.environment(provider(target)), **asked(target)}
