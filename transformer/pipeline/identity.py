"""A run belongs to one teacher, one data set and one seed; anything else may change between commands."""

from __future__ import annotations

from ..contracts.context import Context
from ..contracts.records import PassRecord, RunRecord
from ..contracts.weights import weights_digest
from ..errors import UsageError
from .shapes import text

KEY = "run"
_WORDS = {
    "teacher": "model (its weights or structure)",
    "inputs": "input shape",
    "data": "data",
    "seed": "seed",
}


def identity(context: Context) -> RunRecord:
    """Return what the run is bound to."""
    return RunRecord(
        teacher=weights_digest(context.model),
        inputs=tuple(text(tensor.shape[1:]) for tensor in context.example_inputs),
        data=context.data.name if context.data is not None else None,
        seed=context.seed,
    )


def check_identity(context: Context, *, record: bool = True) -> None:
    """Compare with what the run was made for, and record it (unless told not to) where the run is new.

    A run that was made without data takes the first data it is given, and one in which nothing was finished takes all.

    Raises:
        UsageError: names what differs and the ways out.
    """
    new, old = identity(context), context.store.get(RunRecord, KEY)
    if old is not None and not context.store.kinds() <= {RunRecord.kind, PassRecord.kind}:
        known = old if old.data is not None and new.data is not None else old.model_copy(update={"data": new.data})
        differing = [name for name in _WORDS if getattr(known, name) != getattr(new, name)]
        if differing:
            facts = "; ".join(f"{_WORDS[name]}: {_show(old, name)} then, {_show(new, name)} now" for name in differing)
            what = " and ".join(_WORDS[name] for name in differing)
            raise UsageError(
                f"run {context.store.root} was made with another {what} ({facts}); "
                "give a new --output, or the same as before"
            )
        new = new.model_copy(update={"data": new.data or old.data})
    if record and new != old:
        context.store.put(KEY, new)


def _show(record: RunRecord, name: str) -> str:
    value = getattr(record, name)
    return " and ".join(value) if isinstance(value, tuple) else str(value)
