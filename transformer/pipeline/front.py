"""A run seen from another target: the same candidates and scores, latencies of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..contracts.context import Context
from ..contracts.pass_ import Pass
from ..contracts.target import Target
from ..plugins import load_plugin


def front_elsewhere(context: Context, target: Target, stages: Sequence[Pass]) -> None:
    """Run ``stages``, the last of which finds a Pareto front, on ``target``; its points are added to the run.

    Nothing is trained again: candidates that the run did not train (slower than the teacher's block on its own target)
    cannot be selected here either.
    """
    other = replace(context, target=target, backend=load_plugin("hant.backends", target.backend)())
    for stage in stages:
        for note in stage.run(other).notes:
            context.progress.log(f"{stage.name} on {target.name}: {note}")
