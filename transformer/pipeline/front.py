"""A run seen from another target: the same candidates and scores, latencies of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ...passes.pretraining.records import CandidateRecord
from ...passes.ranking.records import EvaluationRecord
from ...passes.scoring.records import ScoreRecord
from ...passes.selecting.records import ParetoRecord
from ..contracts.context import Context
from ..contracts.pass_ import Pass
from ..contracts.record import Record
from ..contracts.target import Target
from ..plugins import load_plugin
from ..runs.store import RunStore
from ..tools.files import slug

SHARED_KINDS: tuple[type[Record], ...] = (ScoreRecord, EvaluationRecord)
"""Records that do not depend on the target."""


@contextmanager
def on_target(context: Context, target: Target) -> Iterator[Context]:
    """Yield a context on ``target`` with the run's trained candidates; its latencies are kept in ``targets/NAME``.

    Nothing is trained again: candidates that the run did not train (slower than the teacher's block on its own target)
    cannot be selected here either.
    """
    backend = load_plugin("hant.backends", target.backend)()
    folder = context.store.path(f"targets/{slug(Path(target.name).stem)}")
    with RunStore(folder, candidates_of=context.store) as store:
        with store.transaction():
            for key, record in context.store.all(CandidateRecord).items():
                if record.state != "dropped":
                    store.put(key, record)
            for kind in SHARED_KINDS:
                for key, shared in context.store.all(kind).items():
                    store.put(key, shared)
        yield replace(context, store=store, target=target, backend=backend)


def front_elsewhere(context: Context, target: Target, stages: Sequence[Pass]) -> None:
    """Run ``stages``, the last of which finds a Pareto front, on ``target`` and add the points to the run."""
    with on_target(context, target) as other:
        for stage in stages:
            for note in stage.run(other).notes:
                context.progress.log(f"{stage.name} on {target.name}: {note}")
        points = other.store.all(ParetoRecord)
        evaluated = other.store.all(EvaluationRecord)
    with context.store.transaction():
        for key, point in points.items():
            context.store.put(key, point)
        for key, evaluation in evaluated.items():
            context.store.put(key, evaluation)
