"""Fingerprints: what a finished pass was made from, so that it is not run again on the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..contracts.context import Context
from ..contracts.pass_ import Pass
from ..contracts.weights import weights_digest


def digest(value: Any) -> str:
    """Return a short hash of plain data; the order of keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def base(context: Context) -> dict[str, Any]:
    """Return what every pass is built on: teacher, inputs, seed, target and pool.

    Data is not in it: a run is bound to its data, which may come after stages that need none.
    """
    return {
        "teacher": weights_digest(context.model),
        "inputs": [list(tensor.shape) for tensor in context.example_inputs],
        "seed": context.seed,
        "target": context.target.fingerprint,
        "pool": [spec.name for spec in context.pool],
    }


def options(stage: Pass) -> dict[str, Any]:
    """Return a pass's options as plain data."""
    return {field.name: _plain(getattr(stage, field.name)) for field in dataclasses.fields(stage)}


def fingerprint(stage: Pass, inputs: Mapping[str, str], base: Mapping[str, Any]) -> str:
    """Return the fingerprint of a pass from its options, the fingerprints of its inputs by artifact, and the base."""
    return digest({"pass": stage.name, "options": options(stage), "inputs": dict(inputs), "base": dict(base)})


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value)
