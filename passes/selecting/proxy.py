"""Is the proxy true? Compare the sum of loss changes with the real loss of whole networks.

HANT section 3.2, "Linear relaxation in architecture search": 1,000 selections over different budgets, Kendall's tau
0.966 against the accuracy before fine-tuning.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, Pass, PassResult, Share
from ...transformer.contracts.task import TOP1, Metric
from ...transformer.errors import InfeasibleError, UsageError
from ...transformer.tools.seeds import derived_seed
from ..ranking.judge import Judge, Protocol
from ..reporting.figures.charts import Series, scatter
from ..reporting.figures.keep import keep
from ..searching.contest import Contest, Ints
from ..searching.uniform import UniformSampler
from .correction import fit, kendall, objectives, spearman
from .records import ProxyRecord
from .solver.problem import SelectionProblem
from .solver.solve import solve
from .table import SearchTable, search_table
from .weightings import stages

_LEAST = 12
"""Fewest networks that say anything."""


@dataclass(frozen=True)
class ProxyPass(Pass):
    """Write rank correlations, a scatter plot, and a correction of the proxy if it ranks new networks better."""

    name: ClassVar[str] = "proxy"
    requires: ClassVar[tuple[str, ...]] = ("score", "latency")
    ensures: ClassVar[tuple[str, ...]] = ("proxy",)

    networks: Count = 1000
    budgets: Count = 10
    """Limits of the latency, evenly from the fastest network to the teacher."""
    random_share: Share = 0.0
    """Share of the networks that are drawn uniformly under the limit; the others minimise the objective."""
    max_overlap: Share = 0.7
    samples: Count = 6000
    """Held-out training images to evaluate on, at most."""
    batch_size: Count = 256

    def run(self, context: Context) -> PassResult:
        """Sample networks, evaluate each on all images, correlate, correct."""
        table = search_table(context.store, context.teacher)
        networks = sample_networks(context, table, self)
        if len(networks) < _LEAST:
            raise UsageError(
                f"only {len(networks)} different networks can be selected, {_LEAST} are the least that say anything; "
                "give a larger --pool"
            )
        judge = Judge(context, Protocol(self.samples, self.batch_size))
        rows = []
        with context.progress.task("proxy", len(networks)) as task:
            for kind, choice in networks:
                totals = judge.totals(table.choice(choice))
                rows.append({"kind": kind, "loss": totals.mean("loss"), "accuracy": totals.accuracy})
                task.advance()
        choices = [choice for _, choice in networks]
        record = study(context.seed, table, stages(context.teacher), choices, rows, judge.total, context.metric)
        self._write(context, table, choices, rows, record)
        note = f"Kendall's tau {record.kendall_loss:.3f} against loss, {record.kendall_accuracy:.3f} against "
        note += context.metric.name
        change = f"corrected {record.kendall_corrected:.3f} against {record.kendall_plain:.3f} on new networks"
        return PassResult(notes=(note, f"{change}: {'kept' if record.kept else 'not kept'}"))

    def _write(
        self, context: Context, table: SearchTable, choices: list[Ints], rows: list[dict[str, Any]], record: ProxyRecord
    ) -> None:
        sums = objectives(table, choices).tolist()
        series = [
            Series(kind, [(s, row["loss"]) for s, row in zip(sums, rows, strict=True) if row["kind"] == kind])
            for kind in dict.fromkeys(row["kind"] for row in rows)
        ]
        title = f"Objective against real loss: Kendall's tau {record.kendall_loss:.3f}"
        labels = ("sum of loss changes", "loss before fine-tuning")
        figure = keep(context.store, "proxy", title, scatter(series, labels, title))
        points = [
            {**row, "objective": s, "choice": table.choice(c)} for s, row, c in zip(sums, rows, choices, strict=True)
        ]
        content = {"version": 1, **record.model_dump(), "figures": [figure.file], "points": points}
        context.store.write("proxy.json", json.dumps(content, indent=1))
        context.store.put("proxy", record)


def sample_networks(context: Context, table: SearchTable, options: ProxyPass) -> list[tuple[str, Ints]]:
    """Return different networks over the range of latencies: (``selected`` or ``random``, choice)."""
    cost = table.cost["ms"]
    least, most = math.fsum(row.min() for row in cost), table.total("ms", table.teacher())
    each = math.ceil(options.networks / options.budgets)
    drawn = round(each * options.random_share)
    found: dict[tuple[int, ...], tuple[str, Ints]] = {}
    for index, share in enumerate(np.linspace(0, 1, options.budgets + 1)[1:].tolist()):
        limit = least + share * (most - least)
        problem = SelectionProblem(
            loss=table.loss, cost={"ms": cost}, limits={"ms": limit}, solutions=each - drawn,
            max_overlap=options.max_overlap,
        )  # fmt: skip
        selected = [selection.choice for selection in solve(problem)] if each > drawn else []
        for kind, choices in (("selected", selected), ("random", _random(context, table, limit, index, drawn))):
            for choice in choices:
                found.setdefault(tuple(choice.tolist()), (kind, choice))
    return list(found.values())[: options.networks]


def _random(context: Context, table: SearchTable, limit: float, index: int, count: int) -> list[Ints]:
    if not count:
        return []
    sampler = UniformSampler(Contest(table, {"ms": limit}), derived_seed(context.seed, "proxy", str(index)))
    try:
        return sampler.distinct(count)
    except InfeasibleError:
        return []


def study(
    seed: int,
    table: SearchTable,
    stage: list[int],
    choices: list[Ints],
    rows: list[dict[str, Any]],
    samples: int,
    metric: Metric = TOP1,
) -> ProxyRecord:
    """Return the correlations, and the correction fitted on one half and judged on the other."""
    losses, errors = [row["loss"] for row in rows], [-metric.gain(row["accuracy"]) for row in rows]
    sums = objectives(table, choices)
    order = np.random.default_rng(derived_seed(seed, "proxy", "split")).permutation(len(choices)).tolist()
    fitted, rest = order[: len(order) // 2], order[len(order) // 2 :]
    correction = fit(table, stage, [choices[i] for i in fitted], [losses[i] for i in fitted])
    new = objectives(correction.apply(table), [choices[i] for i in rest])
    plain = kendall(sums[rest], [losses[i] for i in rest])
    corrected = kendall(new, [losses[i] for i in rest])
    kept = corrected > plain
    return ProxyRecord(
        networks=len(choices),
        samples=samples,
        kendall_loss=kendall(sums, losses),
        spearman_loss=spearman(sums, losses),
        kendall_accuracy=kendall(sums, errors),
        spearman_accuracy=spearman(sums, errors),
        power=correction.power if kept else 1.0,
        weights=dict(zip(table.blocks, correction.weights, strict=True)) if kept else {},
        held_out=len(rest),
        kendall_plain=plain,
        kendall_corrected=corrected,
        kept=kept,
    )
