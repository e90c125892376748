"""Candidates that cannot win are not trained to the end.

Rungs after 1/2, 1/4, ... of the steps as in successive halving (Jamieson & Talwalkar 2016). But candidates of a block
do not compete for one place: a slower one is chosen for its smaller error. So instead of the worse half, those are
stopped that another one beats in both, by a factor in error, since errors on the way only hint at those at the end.
"""

from __future__ import annotations

from collections.abc import Mapping


def stops(steps: int, rungs: int) -> list[int]:
    """Return the steps after which candidates are measured: ``rungs`` on the way, and the last."""
    return sorted({steps // 2**rung for rung in range(rungs + 1)} - {0})


def hopeless(rivals: Mapping[str, tuple[float, float]], factor: float) -> dict[str, str]:
    """Return why to stop which of the candidates of a block, given as (ms, error) by key.

    One is hopeless where another is no slower and its error at least ``factor`` > 1 times smaller.
    """
    reasons: dict[str, str] = {}
    for key, (ms, error) in rivals.items():
        better = [
            name for name, (own, other) in rivals.items() if own <= ms and factor * other <= error and name != key
        ]
        if better:
            best = min(better, key=lambda name: (rivals[name][1], name))
            operation = best.rpartition("/")[2]
            reasons[key] = f"{operation} is no slower, and its error {rivals[best][1]:.3g} is below {error:.3g}"
    return reasons
