"""Print the figures of docs/selection.md.

    python tests/bench/selection_figures.py first pool large hamming
    python tests/bench/selection_figures.py families --seeds 3
    python tests/bench/selection_figures.py exact --seeds 5      # minutes: ten exact selections for each seed
    python tests/bench/selection_figures.py pool --table scores.json --budget 12.5

Time is processor time of one process on one thread (set OMP_NUM_THREADS=1); wall time is printed beside it.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator

import hant
import highspy
import numpy as np
import pulp
from hant import SelectionProblem
from numpy.typing import NDArray
from selection_instances import FAMILIES, from_file, synthetic  # type: ignore[import-not-found]

Tables = NDArray[np.float64] | list[NDArray[np.float64]]


def timed(problem: SelectionProblem, engine: str = "default") -> tuple[list[hant.Selection], float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    selections = hant.solve(problem, engine)
    return selections, time.process_time() - cpu, time.perf_counter() - wall


def tables(options: argparse.Namespace, **shape: int) -> Iterator[tuple[str, Tables, Tables]]:
    if options.table:
        yield options.table, *from_file(options.table)
        return
    for seed in range(options.seeds):
        yield f"seed {seed}", *synthetic(seed=seed, **shape)


def first(options: argparse.Namespace) -> None:
    """First optimum of each seed, against PuLP with HiGHS at gap 0."""
    seconds, worst = [], 0.0
    for name, loss, cost in tables(options):
        problem = SelectionProblem(loss=loss, cost=cost, limits=options.budget)
        hant.solve(problem)
        runs = [timed(problem) for _ in range(5)]
        seconds += [cpu for _, cpu, _ in runs]
        (best,), (reference,) = runs[0][0], hant.solve(problem, "pulp")
        worst = max(worst, abs(best.objective - reference.objective))
        print(f"first  {name}: {best.objective:.9f} gap {best.gap:g} reference {reference.objective:.9f}")
    median, p95 = np.percentile(seconds, [50, 95]) * 1e3
    print(f"first  processor ms: median {median:.1f}, p95 {p95:.1f}; largest difference to the reference {worst:.1e}")


def pool(options: argparse.Namespace) -> None:
    """K diverse selections at overlap 0.7."""
    rows = []
    for name, loss, cost in tables(options):
        problem = SelectionProblem(loss=loss, cost=cost, limits=options.budget, solutions=options.k, max_overlap=0.7)
        selections, cpu, wall = timed(problem)
        gaps = 100 * np.array([s.gap for s in selections])
        ten = sum(s.objective for s in selections[:10])
        rows.append((cpu, wall, gaps.mean(), gaps.max()))
        print(
            f"pool   {name}: {len(selections)} selections, processor {cpu:.2f} s, wall {wall:.2f} s, "
            f"gap mean {gaps.mean():.3f} %, max {gaps.max():.3f} %, first ten {ten:.6f}",
            flush=True,
        )
    cpu, wall, mean, most = np.array(rows).T
    print(
        f"pool   processor s: median {np.median(cpu):.2f}, max {cpu.max():.2f}; "
        f"gap %: mean {mean.mean():.3f}, worst mean {mean.max():.3f}, max {most.max():.3f}"
    )


def families(options: argparse.Namespace) -> None:
    """K diverse selections of every family of tables, a line each: the mean and the worst over the seeds."""
    print("| tables | processor s, median | most | gap mean % | worst % |\n|---|---:|---:|---:|---:|")
    for name, make in FAMILIES.items():
        seconds, gaps = [], []
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            loss, cost = make(seed=seed)
            problem = SelectionProblem(
                loss=loss, cost=cost, limits=options.budget, solutions=options.k, max_overlap=0.7
            )
            selections, cpu, _ = timed(problem)
            seconds.append(cpu)
            gaps.append([100 * s.gap for s in selections])
        mean, worst = np.mean([np.mean(g) for g in gaps]), max(max(g) for g in gaps)
        print(f"| {name} | {np.median(seconds):.2f} | {max(seconds):.2f} | {mean:.3f} | {worst:.3f} |", flush=True)


def exact(options: argparse.Namespace) -> None:
    """The first ten objectives against ten exact selections."""
    for name, loss, cost in tables(options):
        problem = SelectionProblem(loss=loss, cost=cost, limits=options.budget, solutions=10, max_overlap=0.7)
        ours, cpu, _ = timed(problem)
        reference, cpu_reference, _ = timed(problem, "pulp")
        own, theirs = (sum(s.objective for s in found) for found in (ours, reference))
        print(
            f"exact  {name}: {own:.6f} in {cpu:.2f} s, exact engine {theirs:.6f} in {cpu_reference:.1f} s, "
            f"difference {100 * (own - theirs) / theirs:+.4f} %",
            flush=True,
        )


def large(options: argparse.Namespace) -> None:
    """First optimum of 1000 blocks with 1000 operations each."""
    for seed in range(3):
        loss, cost = synthetic(1000, 1000, seed)
        (best,), cpu, wall = timed(SelectionProblem(loss=loss, cost=cost, limits=options.budget))
        print(f"large  seed {seed}: {best.objective:.6f} gap {best.gap:g}, processor {cpu:.2f} s, wall {wall:.2f} s")


def hamming(options: argparse.Namespace) -> None:
    """2,000 selections that differ in at least 3 of 46 blocks."""
    loss, cost = synthetic()
    problem = SelectionProblem(loss=loss, cost=cost, limits=options.budget, solutions=2000, max_overlap=43 / 46)
    selections, cpu, wall = timed(problem)
    gaps = 100 * np.array([s.gap for s in selections])
    print(
        f"hamming {len(selections)} selections, processor {cpu:.1f} s, wall {wall:.1f} s, "
        f"gap mean {gaps.mean():.3f} %, max {gaps.max():.3f} %"
    )


def main() -> None:
    parts = {"first": first, "pool": pool, "families": families, "exact": exact, "large": large, "hamming": hamming}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--first-seed", type=int, default=100, help="of families: other tables than the solver was tuned on"
    )
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--table", help="JSON file with loss and cost tables instead of synthetic ones")
    parser.add_argument("--budget", type=float, default=0.45)
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}, "
        f"HiGHS {highspy.Highs().version()}, PuLP {pulp.__version__}"
    )
    for part in options.parts:
        parts[part](options)


if __name__ == "__main__":
    main()
