"""Errors of operations that are not trained, from those of their family that are: local linear regression on a pool.

GENet (section 4.2) trains a few super-blocks of each type and predicts all others. Here the few are spread over a
family's hyperparameters, and the plane goes through the log of the error (NMSE) over their logs, a block and family.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...backends.measuring.statistics import ridge
from ...op_library.op_spec import OpSpec
from .unit import Pair, key_of

Floats = NDArray[np.float64]
_PULL = 0.01
"""On slopes, in units of what one sample says over the whole range of a hyperparameter."""
_LEAST_ERROR = 1e-6


def spread(pairs: Iterable[Pair], count: int) -> list[Pair]:
    """Return up to ``count`` pairs of each block and family, as far from each other as can be; smaller families whole.

    The one nearest the middle comes first, then always the one that is farthest from those so far.
    """
    taken: list[Pair] = []
    for group in _groups(pairs).values():
        x = _scaled([spec for _, spec in group])
        chosen = [int(((x - x.mean(axis=0)) ** 2).sum(axis=1).argmin())]
        while len(chosen) < min(count, len(group)):
            distance = ((x[:, None] - x[chosen]) ** 2).sum(axis=2).min(axis=1)
            distance[chosen] = -1.0
            chosen.append(int(distance.argmax()))
        taken += [group[index] for index in sorted(chosen)]
    return taken


def predicted(errors: Mapping[str, float], pairs: Iterable[Pair]) -> dict[str, float]:
    """Return the predicted NMSE of all pairs that are not in ``errors``, by key.

    Those of whose block and family nothing is known are left out. ``errors`` are those of trained pairs, by key.
    """
    found: dict[str, float] = {}
    for group in _groups(pairs).values():
        known = [index for index, pair in enumerate(group) if key_of(pair) in errors]
        if not known or len(known) == len(group):
            continue
        x = _scaled([spec for _, spec in group])
        y = np.log(np.maximum([errors[key_of(group[index])] for index in known], _LEAST_ERROR))
        design = np.concatenate([np.ones((len(x), 1)), x], axis=1)
        pull = [0.0, *[_PULL] * x.shape[1]]
        solution = ridge(design[known], y, [0.0] * design.shape[1], pull)
        told = np.exp(design @ solution)
        found |= {key_of(pair): float(told[i]) for i, pair in enumerate(group) if i not in known}
    return found


def _groups(pairs: Iterable[Pair]) -> dict[tuple[str, str], list[Pair]]:
    groups = defaultdict[tuple[str, str], list[Pair]](list)
    for block, spec in pairs:
        groups[block, spec.family].append((block, spec))
    return groups


def _scaled(specs: Sequence[OpSpec]) -> Floats:
    """Return the hyperparameters of a family's members, shape (members, hyperparameters), each from 0 to 1.

    Numbers count by their log; of words, such as the activation, each is a column of its own.
    """
    rows = [_numbers(spec) for spec in specs]
    columns = sorted({name for row in rows for name in row})
    x = np.array([[row.get(name, 0.0) for name in columns] for row in rows]).reshape(len(specs), len(columns))
    low, high = x.min(axis=0, initial=np.inf), x.max(axis=0, initial=-np.inf)
    varied = high > low
    scaled: Floats = (x[:, varied] - low[varied]) / (high[varied] - low[varied])
    return scaled


def _numbers(spec: OpSpec) -> dict[str, float]:
    found: dict[str, float] = {}
    for field in dataclasses.fields(spec) if dataclasses.is_dataclass(spec) else ():
        value = getattr(spec, field.name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[field.name] = float(np.log(value)) if value > 0 else 0.0
        else:
            found[f"{field.name}={value}"] = 1.0
    return found
