"""The students of one training side by side: ``front.json``, drawings, and the mean accuracy over their costs."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from pydantic import BaseModel, ConfigDict

from ...transformer.contracts.store import Store
from ...transformer.contracts.task import TOP1, Metric
from ..finetuning.records import EpochRecord
from ..reporting.figures.charts import Series, scatter
from ..reporting.figures.keep import keep

FRONT = "front.json"


class FrontPoint(BaseModel):
    """One student, or why there is none."""

    model_config = ConfigDict(frozen=True)

    target: str
    budget: str
    student: str
    """Its name in the run."""
    made: bool
    verified: bool = False
    reason: str = ""
    """Why it is not made, or not verified."""
    ratio: float | None = None
    """Measured student over teacher; None where nothing was measured."""
    ratio_interval: tuple[float, float] | None = None
    student_ms: float | None = None
    estimated: bool = False
    accuracy: float | None = None
    """On the test data, through the runtime, in the metric's unit."""
    drop: float | None = None
    selected: float | None = None
    """On held-out training images, before any training as a whole."""
    held_out: float | None = None
    """On held-out training images, as cut out of the shared weights."""


class Front(BaseModel):
    """What one shared training gave."""

    model_config = ConfigDict(frozen=True)

    version: int = 1
    shared: bool
    metric: Metric = TOP1
    points: list[FrontPoint]
    mean_accuracy: dict[str, float] = {}
    """Mean Pareto accuracy over the measured ratios, by target."""
    schedule: str = ""
    epochs: int = 0
    cost: float = 0.0
    """Of the shared training, in epochs of the full network; a pass of the teacher counts a third of one."""
    alone: float = 0.0
    """What the same students would have cost one by one, in the same unit."""
    seconds: float = 0.0
    """Of the shared training, by the clock."""


def mean_pareto_accuracy(points: Iterable[tuple[float, float]]) -> float:
    """Return the area under accuracy over cost, costs scaled to 0..1 between the least and the largest (DepS).

    The points (cost, accuracy) are joined by straight lines; of points of one cost the best counts. A single point is
    its own mean.

    Raises:
        ValueError: there is no point.
    """
    best: dict[float, float] = {}
    for cost, accuracy in points:
        best[cost] = max(accuracy, best.get(cost, accuracy))
    if not best:
        raise ValueError("the mean Pareto accuracy needs at least one point (cost, accuracy)")
    ordered = sorted(best.items())
    if len(ordered) == 1:
        return ordered[0][1]
    area = sum((right - left) * (first + second) / 2 for (left, first), (right, second) in pairwise(ordered))
    return area / (ordered[-1][0] - ordered[0][0])


def means(points: Iterable[FrontPoint]) -> dict[str, float]:
    """Return the mean Pareto accuracy over the measured ratios, by target; of targets with a verified student."""
    known: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        if point.ratio is not None and point.accuracy is not None:
            known.setdefault(point.target, []).append((point.ratio, point.accuracy))
    return {target: mean_pareto_accuracy(found) for target, found in known.items()}


def write_front(store: Store, front: Front) -> None:
    """Write ``front.json``, and ``figures/front.svg`` and ``figures/shared-training.svg`` where there is anything."""
    drawing, training = draw(front), draw_training(store, front.metric)
    if drawing:
        keep(store, "front", _title(front), drawing)
    if training:
        keep(store, "shared-training", "Students in training", training)
    store.write(FRONT, front.model_dump_json(indent=1))


def draw(front: Front) -> str:
    """Return latency against accuracy, a line for each target, as SVG; empty where nothing was measured."""
    series = []
    for target in dict.fromkeys(point.target for point in front.points):
        met = [p for p in front.points if p.target == target and p.ratio is not None and p.accuracy is not None]
        met.sort(key=lambda point: point.ratio or 0.0)
        places = [(point.ratio or 0.0, point.accuracy or 0.0) for point in met]
        titles = [f"{p.student}: {front.metric.text(p.accuracy or 0.0)} at {p.ratio:.3f}" for p in met]
        if places:
            series.append(Series(target, places, titles, joined=True))
    labels = ("latency, share of the teacher's", front.metric.label(" on test images"))
    return scatter(series, labels, _title(front)) if series else ""


def draw_training(store: Store, metric: Metric) -> str:
    """Return the held-out accuracy of each student by epoch of the shared training, as SVG; empty without one."""
    found: dict[str, list[tuple[float, float]]] = {}
    rows = [row for row in store.all(EpochRecord).values() if row.students]
    aligned = sum(row.stage == "shrink-align" for row in rows)
    for row in rows:
        for name, accuracy in row.students.items():
            epoch = row.epoch + (0 if row.stage == "shrink-align" else aligned)
            found.setdefault(name, []).append((float(epoch), accuracy))
    series = [Series(name, sorted(places), joined=True) for name, places in found.items()]
    return scatter(series, ("epoch", metric.label(" on held-out images")), "Students in training") if series else ""


def _title(front: Front) -> str:
    return "Students of one training" if front.shared else "Students trained one by one"
