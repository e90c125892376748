"""Local linear regression: a plane through what depth and width do around the MasterNet (GENet section 4.2).

The published form, ``g1 (d - d0) + g2 (c - c0)`` about the MasterNet's own accuracy, cannot say that everything that
was trained shortly is behind what was trained long: it has no offset. So there is one here, for every type, against the
MasterNet's own block that was treated alike, and width counts by its logarithm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..selecting.proxy import kendall
from .records import Fit

Floats = NDArray[np.float64]
_RIDGE = 1e-3
"""On the gradients, as a share of the samples: a type with one depth only has no gradient of depth."""


def fit(
    moves: Sequence[tuple[float, float]], values: Sequence[float], *, published: bool = False, ahead: float = 0.0
) -> Fit:
    """Return the plane through ``values`` (N,) at ``moves`` (N, 2): basic blocks more, log of width over the own.

    ``values`` are changes against the MasterNet's own block treated alike, which itself changed by ``ahead`` against
    the MasterNet. The ``published`` form is about the MasterNet, has no offset, and is linear in the width. In the
    other, where the samples that were left out are told worse than by their mean, the gradients are 0 and the offset is
    the mean: the plane would be noise.
    """
    y, x = np.array(values, dtype=float), np.array(moves, dtype=float).reshape(-1, 2)
    paper, change = np.stack([x[:, 0], np.expm1(x[:, 1])], axis=1), y + ahead
    told = paper @ np.linalg.lstsq(paper, change, rcond=None)[0]
    r2_paper = _r2(change, np.asarray(told, dtype=np.float64))
    if published:
        return _published(paper, change, r2_paper)
    design = np.concatenate([np.ones((len(y), 1)), x], axis=1)
    solution, errors, left_out = _solved(design, y)
    r2_left_out = _r2(y, left_out)
    fitted = design @ solution
    usable = r2_left_out >= 0
    return Fit(
        offset=float(solution[0] if usable else y.mean()),
        by_depth=float(solution[1]) if usable else 0.0,
        by_width=float(solution[2]) if usable else 0.0,
        errors=tuple(errors.tolist()),
        r2=_r2(y, fitted),
        r2_left_out=r2_left_out,
        tau=kendall(y, fitted),
        r2_paper=r2_paper,
    )


def _published(design: Floats, y: Floats, r2: float) -> Fit:
    """Return the fit of the published form, which takes its gradients whatever they tell."""
    solution, errors, left_out = _solved(design, y)
    return Fit(
        offset=0.0,
        by_depth=float(solution[0]),
        by_width=float(solution[1]),
        errors=(0.0, float(errors[0]), float(errors[1])),
        r2=_r2(y, design @ solution),
        r2_left_out=_r2(y, left_out),
        tau=kendall(y, design @ solution),
        r2_paper=r2,
        published=True,
    )


def _solved(design: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the solution, its standard errors, and what fits on all others say of each sample."""
    ridge = np.diag([0.0 if (column == 1).all() else _RIDGE * len(y) for column in design.T])  # not on the offset
    inverse = np.linalg.inv(design.T @ design + ridge)
    solution = inverse @ design.T @ y
    residual = y - design @ solution
    leverage = np.einsum("ni,ij,nj->n", design, inverse, design)
    variance = residual @ residual / max(1, len(y) - np.linalg.matrix_rank(design))
    errors = np.sqrt(variance * np.diag(inverse @ design.T @ design @ inverse))
    return solution, errors, y - residual / np.maximum(1 - leverage, 1e-9)


def _r2(y: Floats, fitted: Floats) -> float:
    """Return the share of the spread that is told; 0 where there is no spread."""
    spread = float(((y - y.mean()) ** 2).sum())
    return 1 - float(((y - fitted) ** 2).sum()) / spread if spread > 0 else 0.0
