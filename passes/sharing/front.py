"""How good a set of networks is as a whole: the mean accuracy over their range of costs."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise


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
    pairs = pairwise(ordered)
    area = sum((right - left) * (first + second) / 2 for (left, first), (right, second) in pairs)
    return area / (ordered[-1][0] - ordered[0][0])
