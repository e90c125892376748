"""Linearised search: first selections from pretraining's own errors, then rounds of linear steps at the incumbent.

1. Start: the integer program on pretraining's error (NMSE) with weights that fall with depth, a few weightings tried.
2. Linearise the incumbent on held-out images, other ones in every round.
3. Propose networks near it by the program, race them on images that steps 1 and 2 never see the gradients of.
4. Go on from the best; the radius follows how far it lies. No scores are needed, no candidate is trained.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...transformer.contracts.context import Context
from ...transformer.contracts.progress import Task as Bar
from ...transformer.data.images import shuffled
from ...transformer.tools.seeds import derived_seed
from ..networks.supernet import Statistics
from ..pretraining.records import CandidateRecord
from ..ranking.judge import Judge, Protocol
from ..selecting.table import Floats
from ..selecting.weightings import stages, weightings
from .contest import Contest, Ints
from .effects import Effects
from .linearise import linearise
from .propose import proposals
from .race import Racing
from .records import SearchRecord

_LARGEST_RADIUS = 12


@dataclass(frozen=True)
class Linear:
    """Options of the search."""

    rounds: int = 4
    images: int = 120
    """Held-out images to linearise on, in every round."""
    race_images: int = 600
    """Held-out images to race on, at most; half of all at most."""
    samples: int = 6000
    batch_size: int = 200
    """Of the races; batch norms normalise by the statistics of these batches."""
    radius: int = 6
    """Blocks that the first round changes in one linear step."""
    statistics: Statistics = "batch"
    """What batch norms normalise by: ``batch`` is what fine-tuning starts from, ``running`` what a network without any
    further training is run with."""
    draw: int = 0
    """Another number draws other images to linearise on."""

    def raced(self, total: int) -> int:
        """Return how many of ``total`` held-out images the races run on."""
        return min(self.race_images, max(1, total // 2))


@dataclass(frozen=True)
class Trail:
    """Where a search went."""

    records: tuple[SearchRecord, ...]
    """The incumbent after the start and after each round; the last is the result."""
    model: Callable[[], Effects]
    """Makes the linear model of the result."""

    @property
    def choices(self) -> list[dict[str, str]]:
        """Different incumbents, the last first."""
        found = {tuple(record.choice.items()): record.choice for record in reversed(self.records)}
        return list(found.values())

    @property
    def weights(self) -> None:
        """Candidates are not trained."""
        return None

    @property
    def told(self) -> str:
        """The incumbents' losses and the time that it took."""
        way = " -> ".join(f"{record.loss:.4f}" for record in self.records)
        return f"loss {way} in {sum(record.seconds for record in self.records):.0f} CPU-seconds"

    def exchanges(self, choice: Ints) -> tuple[Floats, ...]:
        """Return for each block the loss with each of its operations by the linear model, shape (M,)."""
        return self.model().exchanges(choice)


def linear_search(context: Context, contest: Contest, budget: str, options: Linear) -> Trail:
    """Search within the limits of ``contest``; each round's incumbent is durable, a search that was stopped goes on."""
    search = _Search(context, contest, budget, options)
    with context.progress.task("search", options.rounds + 1) as bar:
        records = search.run(bar)
    last = records[-1]
    return Trail(tuple(records), lambda: search.effects(contest.table.indices(last.choice), last.round + 1))


class _Search:
    def __init__(self, context: Context, contest: Contest, budget: str, options: Linear) -> None:
        self.context, self.contest, self.budget, self.options = context, contest, budget, options
        protocol = Protocol(options.samples, options.batch_size, statistics=options.statistics)
        self.judge = Judge(context, protocol)
        self.racing = Racing(self.judge, contest.table, options.raced(self.judge.total))
        self.recipe = self._recipe()

    def run(self, bar: Bar) -> list[SearchRecord]:
        """Return the records of all rounds, those that the run has first."""
        records: list[SearchRecord] = []
        while not records or (records[-1].radius and len(records) <= self.options.rounds):
            key = f"{self.budget}/{len(records):02d}"
            known = self.context.store.get(SearchRecord, key)
            if known is None or known.recipe != self.recipe:
                known = self._round(records[-1]) if records else self._start()
                self.context.store.put(key, known)
            records.append(known)
            bar.advance(1, f"round {known.round}: loss {known.loss:.4f}")
        return records

    def effects(self, start: Ints, round_: int) -> Effects:
        """Return the linear model that round ``round_`` uses at ``start``: its images follow from seed and round."""
        judge, options = self.judge, self.options
        rest = judge.part(self.racing.images, judge.total)
        rest = rest if len(rest) > 1 else judge.part(0, judge.total)
        seed = derived_seed(self.context.seed, "search", str(options.draw), str(round_)) % 2**31
        indices = rest[shuffled(len(rest), seed, 0)[: options.images]].sort().values
        return linearise(judge, self.contest.table, start, indices, options.statistics)

    def _start(self) -> SearchRecord:
        started, contest = time.process_time(), self.contest
        stage = stages(self.judge.supernet.graph)
        choices = [contest.best(loss) for loss in weightings(contest.table.loss, stage)]
        best = self.racing.best(choices, batches=1)
        loss = self.racing.loss(best)
        return self._record(0, best, loss, loss, self.options.radius, started, 0)

    def _round(self, last: SearchRecord) -> SearchRecord:
        started, before = time.process_time(), self.racing.networks
        now = self.contest.table.indices(last.choice)
        near = proposals(self.contest, self.effects(now, last.round + 1), last.radius)
        best = self.racing.best([now, *near])
        changed = int((best != now).sum())
        radius = min(_LARGEST_RADIUS, max(2, 2 * changed)) if changed else last.radius // 2
        return self._record(
            last.round + 1, best, self.racing.loss(best), self.racing.loss(now), radius, started, before
        )

    def _record(
        self, number: int, choice: Ints, loss: float, before: float, radius: int, started: float, networks: int
    ) -> SearchRecord:
        return SearchRecord(
            budget=self.budget,
            round=number,
            choice=self.contest.table.choice(choice),
            loss=loss,
            before=before,
            radius=radius,
            networks=self.racing.networks - networks,
            recipe=self.recipe,
            seconds=time.process_time() - started,
        )

    def _recipe(self) -> str:
        """Return the fingerprint of all that decides the way of the search."""
        table, options = self.contest.table, self.options
        trained = {key: record.recipe for key, record in self.context.store.all(CandidateRecord).items()}
        tables = [np.concatenate(rows).tolist() for rows in (table.loss, *table.cost.values())]
        facts: list[object] = [self.judge.key({}), trained, table.operations, tables, dict(self.contest.limits)]
        facts += [options.images, options.race_images, options.radius, options.draw]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
