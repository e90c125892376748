"""The work that is before a run, in seconds of this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..contracts.context import Context
from ..contracts.pass_ import Pass
from ..tools.copied import copied
from ..tools.nested import tensors

_BATCH = 16
_TRAINING = 3
"""Work of a forward and a backward pass, in forward passes."""


@dataclass(frozen=True)
class Expected:
    """What a stage is expected to take; all are estimates."""

    stage: str
    what: str
    seconds: float
    bytes: int


def forecast(context: Context, stages: Sequence[Pass]) -> list[Expected]:
    """Return what each of ``stages`` is expected to take, by one training step of the teacher.

    The context's graph and operation records are there.
    """
    work = {stage.name: stage.work(context) for stage in stages}
    pace = _seconds_a_mac(context) if any(item.macs for item in work.values()) else 0.0
    return [
        Expected(name, item.what, item.seconds + pace * item.macs, item.bytes)
        for name, item in work.items()
        if item.what
    ]


def _seconds_a_mac(context: Context) -> float:
    """Return the seconds that a multiply-accumulate takes where networks are trained, seen in a step of the teacher."""
    network = copied(context.teacher.network)[0].to(context.device).eval()
    inputs = [spec.random(_BATCH).to(context.device) for spec in context.teacher.inputs]
    times = []
    for _ in range(2):  # the first one pays for what is set up once
        start = time.perf_counter()
        with torch.enable_grad():
            outputs = [tensor.float().mean() for tensor in tensors(network(*inputs))]
            loss = torch.stack(outputs).sum()
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
        if context.device.type == "cuda":
            torch.cuda.synchronize(context.device)
        times.append(time.perf_counter() - start)
    return min(times) / (_TRAINING * _BATCH * max(1, context.teacher.macs))
