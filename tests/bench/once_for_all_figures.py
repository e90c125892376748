"""Drawings of the studies in ``once_for_all.py``, in the manner of the figures of DepS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hant.passes.reporting.figures.charts import Series, bars, scatter
from hant.passes.sharing.plan import Plan
from hant.passes.sharing.schedule import SCHEDULES

Row = Mapping[str, Any]
_MACS, _TOP1 = "MACs, share of the full network's", "top-1 on test images, %"
_DELAYS = {f"deps, delay {share}": share for share in ("0", "25 %", "50 %", "75 %")}
_FIGURES = {
    "5a": ("nothing", ("deps, delay 50 %", "deps, delay 0", "progressive, labels alone", "random"), "Schedules"),
    "7a": ("nothing", tuple(_DELAYS), "Share of the steps before students are trained"),
    "7b": ("nothing", ("deps, delay 50 %", "deps, no epsilon"), "Epsilon"),
    "teacher": ("teacher", ("none", "align", "front", "deps", "sandwich"), "From a trained teacher"),
    "together": ("together", (), "One training against one by one"),
}
"""Of the paper's numbers, where there is one: study, variants (all if empty), title."""


def draw(rows: Sequence[Row], folder: Path) -> None:
    """Write every figure that there are rows for."""
    folder.mkdir(parents=True, exist_ok=True)
    for network in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == network]
        for name, svg in figures(own).items():
            path = folder / f"once-for-all-{network}-{name}.svg"
            path.write_text(svg)
            print(path)


def figures(rows: Sequence[Row]) -> dict[str, str]:
    """Return the figures of one network, by name."""
    drawn = {name: front(rows, *what) for name, what in _FIGURES.items()}
    drawn["1"] = costs(rows)
    drawn["2a"] = cuts(rows)
    drawn["3"] = steps(rows, "cosines", "cosine of the summed gradient and the full network's", "Direction")
    drawn["4"] = steps(rows, "ratios", "squared norm over the full network's", "Length of the summed gradient")
    drawn["epsilon"] = epsilon()
    return {name: svg for name, svg in drawn.items() if svg}


def front(rows: Iterable[Row], study: str, variants: Sequence[str], title: str) -> str:
    """Draw mean accuracies over seeds against costs, a line for each variant."""
    own = [row for row in rows if row["study"] == study]
    series = []
    for variant in variants or dict.fromkeys(row["variant"] for row in own):
        found = [sorted(map(tuple, row["points"])) for row in own if row["variant"] == variant]
        if found:
            places = [(at[0][0], sum(point[1] for point in at) / len(at)) for at in zip(*found, strict=True)]
            series.append(Series(variant, places, joined=True))
    return scatter(series, (_MACS, _TOP1), title) if series else ""


def costs(rows: Iterable[Row]) -> str:
    """Draw what a step of each schedule costs."""
    found = {row["variant"]: row["passes_a_step"] for row in rows if row["study"] == "passes"}
    return bars({"": found}, "passes of the full network a step", "Cost, counted") if found else ""


def cuts(rows: Iterable[Row]) -> str:
    """Draw students that were cut out of a full network on its way."""
    found = [row["trained"] for row in rows if row["study"] == "cuts"]
    series = [
        Series(f"{share} trained", sorted(map(tuple, facts["points"])), joined=True)
        for share, facts in (found[0] if found else {}).items()
    ]
    return scatter(series, (_MACS, _TOP1), "Cut out without training") if series else ""


def steps(rows: Iterable[Row], value: str, label: str, title: str) -> str:
    """Draw a value of each step behind the delay."""
    own = [row for row in rows if row["study"] == "gradients" and row["seed"] == 0 and row[value]]
    series = [Series(row["variant"], list(map(tuple, row[value])), joined=True, marked=False) for row in own]
    return scatter(series, ("steps since students are trained", label), title) if series else ""


def epsilon(total: int = 1000) -> str:
    """Draw the factor of the students' gradients over the steps."""
    plan = Plan(schedule=SCHEDULES["deps"], total=total, front=(), operations=(), outside=1, any=True)
    first = round(plan.schedule.phases[0].share * total)
    places = [(step / total, 0.0 if step < first else plan.epsilon(step)) for step in range(total)]
    return scatter(
        [Series("epsilon", places, joined=True, marked=False)],
        ("share of the steps", "factor of the students' gradients"),
        "Epsilon of DepS",
    )
