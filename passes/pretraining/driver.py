"""Gives out the work in units and writes what comes back: the only one who writes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ...transformer.contracts.progress import Progress
from ...transformer.contracts.store import Store
from ...transformer.errors import UsageError, nearest
from ...transformer.tools.files import slug
from . import partial
from .executor import EXECUTORS, Executor, LocalExecutor, Report
from .halving import expected, used
from .recipe import Recipe
from .records import CandidateRecord
from .tally import Tally
from .unit import Job, Outcome, Pair, Result, TooLarge, Unit, key_of, unusable
from .units import Cut, units

State = Literal["ready", "failed", "dropped"]


class Driver:
    """Takes candidates through their training, unit by unit; each is durable when it came back."""

    def __init__(
        self,
        store: Store,
        recipe: Recipe,
        recipes: Mapping[str, str],
        executor: Executor,
        cut: Cut,
        tally: Tally,
        progress: Progress,
    ) -> None:
        """``recipes`` has the hash of how each candidate comes about, by key (``Recipe.of``)."""
        self._store, self._recipe, self._recipes, self._executor = store, recipe, recipes, executor
        self._cut, self._tally, self._progress = cut, tally, progress
        self._known = partial.known(store, recipes)
        self._ended: set[str] = set()

    def take_up(self, pairs: Sequence[Pair]) -> None:
        """Count what an earlier run has done of the pairs."""
        self._tally.skip(sum(self._behind(pair) for pair in pairs))

    def advance(self, pairs: Sequence[Pair], stop: int) -> list[Pair]:
        """Train the pairs up to step ``stop``; return those that can go on from there."""
        pairs = self._going(pairs)
        begun = [(pair, self._behind(pair)) for pair in pairs]
        waiting = deque(units([(pair, step) for pair, step in begun if step < stop], stop, self._cut))
        while waiting or self._executor.running:
            while waiting and self._executor.running < self._executor.slots:
                self._start(waiting.popleft())
            waiting.extendleft(reversed(self._settle(*self._executor.finish())))
        return self._going(pairs)

    def thin(
        self, pairs: Sequence[Pair], step: int, latency: Mapping[str, float], stage: Mapping[str, int]
    ) -> list[Pair]:
        """End the candidates that no near-optimal selection uses after ``step``; return the others.

        Judged by what is durable alone, so a run that was stopped comes to the same end. Without the latency of a
        block's own operation nothing is ended.

        Args:
            pairs: that are in training.
            step: that they have reached.
            latency: in ms, by key.
            stage: of each block, in order of execution.
        """
        errors = {key: record.errors[step] for key, record in self._known.items() if step in record.errors}
        rivals = {
            key: (latency[key], error) for key, error in expected(errors, self._ends(), stage).items() if key in latency
        }
        kept = used(rivals, latency, stage)
        reason = f"stopped after {step} of {self._recipe.steps} steps: no selection near the best uses it"
        for pair in pairs:
            key = key_of(pair)
            if key in rivals and f"{pair[0]}/teacher" in latency and key not in kept:
                record = self._known[key]
                self._end(pair, "dropped", reason, step, steps=record.steps, seconds=record.seconds)
        return self._going(pairs)

    def _ends(self) -> dict[str, float]:
        """Return the errors of the candidates that are trained to the end, by key."""
        return {
            key: record.nmse
            for key, record in self._store.all(CandidateRecord).items()
            if record.state == "ready" and record.nmse is not None and record.recipe == self._recipes.get(key)
        }

    def _behind(self, pair: Pair) -> int:
        """Return the steps that a candidate has behind it."""
        record = self._known.get(key_of(pair))
        return record.step if record else 0

    def _going(self, pairs: Sequence[Pair]) -> list[Pair]:
        return [pair for pair in pairs if key_of(pair) not in self._ended]

    def _start(self, unit: Unit) -> None:
        keys = [key_of(pair) for pair in unit.pairs]
        states = {key: partial.state(self._store, self._known.get(key)) for key in keys if unit.start}
        self._executor.start(unit, states)

    def _settle(self, unit: Unit, result: Result) -> list[Unit]:
        """Write what came back; return the units that follow from it."""
        if isinstance(result, TooLarge):
            return self._split(unit, result.reason)
        step = min(outcome.step for outcome in result.values())
        going = [pair for pair in unit.pairs if self._keep(pair, result[key_of(pair)])]
        if step < unit.stop:
            return [Unit(tuple(going), step, unit.stop)] if going else []
        self._tally.show()
        return []

    def _split(self, unit: Unit, reason: str) -> list[Unit]:
        """Return two halves, one to be trained after the other; a candidate that is too large alone has failed."""
        self._progress.log(f"pretrain: out of memory with {len(unit.pairs)} candidates in flight; halving")
        if len(unit.pairs) > 1:
            return list(unit.halves())
        for alone in unit.pairs:
            self._end(alone, "failed", f"out of memory in training it alone: {reason}", unit.start)
        return []

    def _keep(self, pair: Pair, outcome: Outcome) -> bool:
        """Write how far a candidate got; return whether it goes on."""
        failure = unusable(outcome)
        if not failure and outcome.step < self._recipe.steps:
            before = self._known.get(key_of(pair))
            self._known[key_of(pair)] = partial.keep(self._store, pair, outcome, self._recipes[key_of(pair)], before)
            return True
        self._finish(pair, outcome, failure)
        return False

    def _finish(self, pair: Pair, outcome: Outcome, failure: str) -> None:
        """Write the candidate's weights, then its record: a record means that the weights are there."""
        before = self._known.get(key_of(pair))
        steps = outcome.steps + (before.steps if before else 0)
        file = digest = ""
        if not failure and outcome.weights:
            file = f"candidates/{slug(pair[0])}/{slug(pair[1].name)}.safetensors"
            digest = self._store.save_tensors(file, outcome.weights)
        self._end(
            pair,
            "failed" if failure else "ready",
            failure,
            outcome.step,
            nmse=outcome.error if outcome.error is not None and math.isfinite(outcome.error) else None,
            steps=steps,
            seconds=outcome.seconds + (before.seconds if before else 0.0),
            file=file,
            digest=digest,
        )

    def _end(self, pair: Pair, state: State, reason: str, step: int, **facts: Any) -> None:
        """Write what became of a candidate after ``step``."""
        key, (block, spec) = key_of(pair), pair
        record = CandidateRecord(
            block=block, operation=spec.name, state=state, reason=reason, recipe=self._recipes[key], **facts
        )
        self._store.put(key, record)
        if key in self._known:
            partial.forget(self._store, pair, self._known[key])
        self._ended.add(key)
        self._tally.skip(self._recipe.steps - step)
        self._tally.ended(pair, record.nmse)


def open_executor(name: str, job: Job, workers: int, report: Report) -> Executor:
    """Return the executor called ``name``.

    Raises:
        UsageError: no such executor, or Ray is not installed or not to be had.
    """
    if name not in EXECUTORS:
        raise UsageError(f"unknown executor {name!r}{nearest(name, EXECUTORS)}")
    if name == "local":
        return LocalExecutor(job, workers, report)
    from .on_ray import RayExecutor

    return RayExecutor(job, workers, report)
