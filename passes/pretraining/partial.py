"""What a run keeps of candidates in the middle of their training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from ...transformer.contracts.record import Record, Scope
from ...transformer.contracts.store import Store
from ...transformer.errors import LoadError
from ...transformer.tools.files import slug
from .unit import Outcome, Pair, key_of


class TrainingRecord(Record):
    """How far a candidate is and what was measured on the way. Key: ``block/operation``."""

    kind: ClassVar[str] = "training"
    scope: ClassVar[Scope] = Scope.RUN
    block: str
    operation: str
    recipe: str
    step: int
    """Steps of the recipe that are done."""
    steps: int
    """Those of them that changed weights."""
    seconds: float
    errors: dict[int, float]
    """MSE over variance on held-out images, by the step after which it was measured."""
    file: str = ""
    """safetensors file to go on from, relative to the run; empty where there is nothing to go on with."""


def known(store: Store, recipes: Mapping[str, str]) -> dict[str, TrainingRecord]:
    """Return the records of these recipes (key -> recipe) by key; those whose state is gone or damaged say nothing."""
    return {
        key: record
        for key, record in store.all(TrainingRecord).items()
        if record.recipe == recipes.get(key) and (not record.file or _sound(store, record.file))
    }


def _sound(store: Store, file: str) -> bool:
    try:
        store.load_tensors(file)
    except LoadError:
        return False
    return True


def keep(store: Store, pair: Pair, outcome: Outcome, recipe: str, before: TrainingRecord | None) -> TrainingRecord:
    """Write how far a candidate got: its state under a new name, then the record, then older states go."""
    file = ""
    if outcome.state:
        file = f"{_stem(pair)}.step{outcome.step}.safetensors"
        store.save_tensors(file, outcome.state)
    errors = {} if before is None else before.errors
    if outcome.error is not None:
        errors = errors | {outcome.step: outcome.error}
    record = TrainingRecord(
        block=pair[0],
        operation=pair[1].name,
        recipe=recipe,
        step=outcome.step,
        steps=outcome.steps + (before.steps if before else 0),
        seconds=outcome.seconds + (before.seconds if before else 0.0),
        errors=errors,
        file=file,
    )
    store.put(key_of(pair), record)
    discard(store, pair, file)
    return record


def forget(store: Store, pair: Pair, record: TrainingRecord) -> None:
    """Delete the state of a candidate that is done with; what is known of its errors stays."""
    store.put(key_of(pair), record.model_copy(update={"step": 0, "steps": 0, "seconds": 0.0, "file": ""}))
    discard(store, pair)


def discard(store: Store, pair: Pair, but: str = "") -> None:
    """Delete the states of a candidate, all but one."""
    for path in store.path(_stem(pair)).parent.glob(f"{slug(pair[1].name)}.step*.safetensors"):
        if path != store.path(but):
            path.unlink(missing_ok=True)


def state(store: Store, record: TrainingRecord | None) -> dict[str, Tensor]:
    """Return what training goes on from; empty for its beginning."""
    return {} if record is None or not record.file else store.load_tensors(record.file)


def _stem(pair: Pair) -> str:
    return f"candidates/{slug(pair[0])}/{slug(pair[1].name)}"
