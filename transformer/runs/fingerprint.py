"""Fingerprints: what a finished pass was made from, so that it is not run again on the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..contracts.context import Context
from ..contracts.pass_ import Pass
from .records import PassRecord
from .weights import weights_digest


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
    """Return a pass's options as plain data; those of another pass that it makes use of are that pass's own."""
    values = {field.name: getattr(stage, field.name) for field in dataclasses.fields(stage)}
    return {name: _plain(value) for name, value in values.items() if not isinstance(value, Pass)}


def fingerprint(stage: Pass, inputs: Mapping[str, str], base: Mapping[str, Any]) -> str:
    """Return the fingerprint of a pass from what decides its result.

    That is those of its options that do, the fingerprints of its inputs by artifact, and the base.
    """
    idle = _idle(stage)
    deciding = {name: value for name, value in options(stage).items() if name not in idle}
    return _of(stage, deciding, inputs, base)


def recognised(record: PassRecord, stage: Pass, inputs: Mapping[str, str], base: Mapping[str, Any]) -> bool:
    """Return whether ``record`` is of this pass with these options, inputs and base.

    Also where an earlier version made it: options that were added since and stand at their default do not count, and
    of those that decide nothing, which were part of the fingerprint once, the recorded value is taken.
    """
    now, idle = options(stage), _idle(stage)
    added = [name for name in now if name not in record.options and name not in idle]
    if any(now[name] != default for name, default in _defaults(stage).items() if name in added):
        return False
    deciding = {name: now.get(name, value) for name, value in record.options.items() if name not in idle}
    once = deciding | {name: value for name, value in record.options.items() if name in idle}
    return record.fingerprint in (_of(stage, deciding, inputs, base), _of(stage, once, inputs, base))


def changed(record: PassRecord, stage: Pass) -> list[str]:
    """Return the options that decide and differ from those recorded, as ``budget 0.45 then, 0.3 now``."""
    now, idle = options(stage), _idle(stage)
    return [
        f"{name} {value} then, {now[name]} now"
        for name, value in record.options.items()
        if name in now and name not in idle and value != now[name]
    ]


def _of(stage: Pass, values: Mapping[str, Any], inputs: Mapping[str, str], base: Mapping[str, Any]) -> str:
    return digest({"pass": stage.name, "options": dict(values), "inputs": dict(inputs), "base": dict(base)})


def _idle(stage: Pass) -> set[str]:
    """Return the options that decide nothing."""
    return {field.name for field in dataclasses.fields(stage) if not field.metadata.get("decides", True)}


def _defaults(stage: Pass) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in dataclasses.fields(stage):
        if field.default_factory is not dataclasses.MISSING:
            found[field.name] = _plain(field.default_factory())
        else:
            found[field.name] = None if field.default is dataclasses.MISSING else _plain(field.default)
    return found


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value)
