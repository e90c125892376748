"""Whether a target can run in PyTorch here, and what its options mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...transformer.contracts.target import Target
from ...transformer.errors import UsageError, nearest
from ..measuring.machine import host, processor
from ..options import asked, check_options, thread_count

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MODES = ("eager", "compile", "cuda-graph")
_OPTIONS = ("threads", "mode")


def why_not(target: Target) -> str | None:
    """Return why this machine cannot run ``target``; None if it can."""
    if target.precision not in PRECISIONS:
        return f"the pytorch backend has no {target.precision}; it has {', '.join(PRECISIONS)}"
    if target.device != "cuda" and mode(target) == "cuda-graph":
        return f"mode 'cuda-graph' needs device 'cuda', and target {target.name!r} asks for {target.device!r}"
    if target.device == "cuda" and not torch.cuda.is_available():
        return "PyTorch sees no CUDA device here"
    if target.device not in ("cpu", "cuda"):
        return f"the pytorch backend has no device {target.device!r}; it has cpu, cuda"
    wanted, found = str(target.facts.get("device_name", "")), _device(target)
    return None if wanted in found else f"the device here is {found}, not {wanted}"


def mode(target: Target) -> str:
    """Return how the network is run: ``eager``, ``compile``, or ``cuda-graph``: eager, replayed as one CUDA graph."""
    check_options(target, _OPTIONS)
    chosen = str(target.options.get("mode", "eager"))
    if chosen not in MODES:
        raise UsageError(f"target {target.name!r}: unknown mode {chosen!r}{nearest(chosen, MODES)}")
    return chosen


@contextmanager
def thread_limit(target: Target) -> Iterator[None]:
    """Give PyTorch the target's threads for a while; the count belongs to the whole process."""
    before = torch.get_num_threads()
    torch.set_num_threads(thread_count(target))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def provenance(target: Target) -> dict[str, str]:
    """Return what a latency on ``target`` depends on here."""
    return {
        "device": _device(target),
        **host(),
        "runtime": f"torch {torch.__version__}",
        **asked(target),
    }


def _device(target: Target) -> str:
    on_gpu = target.device == "cuda" and torch.cuda.is_available()
    return torch.cuda.get_device_name() if on_gpu else processor()
