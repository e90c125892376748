"""What the baselines have in common: budget, candidates and evaluation are those of integer programming."""

from __future__ import annotations

import hashlib
import json
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...transformer.contracts.budget import Budget
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, Pass, PassResult
from ...transformer.contracts.store import Store
from ..pretraining.records import CandidateRecord
from ..ranking.judge import Entry, Judge, Protocol
from ..ranking.race import finishing_order
from ..selecting.select import SelectPass, further_limits, settle
from ..selecting.table import SearchTable, known_table
from .contest import Contest, Ints
from .records import BaselineRecord, LimitRecord


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    choice: Ints
    """Index of each block's operation, shape (N,)."""
    networks: int
    """Whole networks that were run on images, as often as they were."""
    seconds: float
    """CPU time of evaluations that the run already had; the caller's clock has the rest."""
    losses: tuple[float, ...] = ()
    """Loss of each network over the images that it was run on: at least one batch, all for the best."""


@dataclass(frozen=True)
class BaselinePass(Pass):
    """Search within a budget, its limit settled as ``select`` does it; write what was found and what it cost."""

    requires: ClassVar[tuple[str, ...]] = ("candidate", "latency", "network_latency")
    ensures: ClassVar[tuple[str, ...]] = ("baseline",)

    budget: Budget = Budget()
    samples: Count = 6000
    """Held-out training images to evaluate on, at most."""
    batch_size: Count = 256

    @property
    def method(self) -> str:
        """Name under which results are kept."""
        return self.name.removeprefix("baseline-")

    @abstractmethod
    def search(self, context: Context, contest: Contest, judge: Judge) -> Found:
        """Return a choice within the contest's limits."""

    def run(self, context: Context) -> PassResult:
        """Search, evaluate what was found, and record it."""
        contest = contest_for(context, self.budget)
        judge = Judge(context, Protocol(self.samples, self.batch_size))
        started = time.process_time()
        found = self.search(context, contest, judge)
        seconds = time.process_time() - started + found.seconds
        record = baseline_record(self.method, self.budget, contest, judge, found, seconds)
        context.store.put(f"{self.method}/{self.budget}", record)
        note = f"{self.method}: loss {record.loss:.4f}, {context.metric.text(record.accuracy)} held out"
        return PassResult(notes=(f"{note}, {seconds:.1f} CPU-seconds of search",))


def contest_for(context: Context, budget: Budget) -> Contest:
    """Return the contest under ``budget``; the first search settles its limit as ``select`` does, all share it.

    Where candidates, scores or latencies have changed since, it is settled anew.
    """
    table = known_table(context.store, context.teacher)
    key = f"{context.target.fingerprint}/{budget}"
    known, source = context.store.get(LimitRecord, key), table_digest(table)
    if known is None or known.source != source:
        known = LimitRecord(ms=settle(context, table, SelectPass(budget=budget))[0], source=source)
        context.store.put(key, known)
    return Contest(table, {"ms": known.ms, **further_limits(budget, table, context.teacher)})


def table_digest(table: SearchTable) -> str:
    """Return a short hash of everything that a search chooses by."""
    columns = {"loss": table.loss, **table.cost}
    numbers = {name: [row.tolist() for row in rows] for name, rows in columns.items()}
    text = json.dumps([table.blocks, table.operations, numbers], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def search_file(context: Context, contest: Contest, judge: Judge, method: str, options: Sequence[float | str]) -> str:
    """Return the file of a long search's state, relative to the run.

    Its name changes with the options, the limits, the table, the images, and how the candidates were trained: a search
    that was stopped goes on where it goes on with the same networks, and nowhere else.
    """
    recipes = [f"{key}@{trained}" for key, trained in trained_as(context.store).items()]
    facts = [context.seed, list(options), dict(contest.limits), table_digest(contest.table), judge.total, recipes]
    return f"checkpoints/{method}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}.safetensors"


def trained_as(store: Store) -> dict[str, str]:
    """Return how each candidate that is ready was trained, and the digest of what came out, by ``block/operation``."""
    records = store.all(CandidateRecord).items()
    return {key: f"{record.recipe}/{record.digest}" for key, record in records if record.state == "ready"}


def baseline_record(
    method: str, budget: Budget, contest: Contest, judge: Judge, found: Found, seconds: float
) -> BaselineRecord:
    """Return the record of what ``method`` found, evaluated like any selection."""
    choice = contest.table.choice(found.choice)
    totals = judge.totals(choice)
    return BaselineRecord(
        method=method,
        budget=str(budget),
        choice=choice,
        objective=contest.objective(found.choice),
        cost={name: contest.total(name, found.choice) for name in contest.table.cost},
        limits=dict(contest.limits),
        loss=totals.mean("loss"),
        accuracy=totals.accuracy,
        samples=totals.samples,
        networks=found.networks,
        losses=found.losses,
        seconds=seconds,
    )


def best_of(contest: Contest, judge: Judge, choices: Sequence[Ints], all_images: bool) -> Found:
    """Return the choice of least loss; without ``all_images`` losers are stopped early."""
    entries = [judge.entry(i, contest.table.choice(choice), "loss") for i, choice in enumerate(choices)]
    before = sum(entry.seconds for entry in entries)
    if all_images:
        for entry in entries:
            entry.finish()
    winner: Entry = next(finishing_order(entries))
    losses = tuple(entry.totals.mean("loss") for entry in entries)
    return Found(choices[winner.index], len(entries), before, losses)
