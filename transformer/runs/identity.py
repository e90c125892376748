"""A run belongs to one teacher, one data set and one seed; anything else may change between commands.

Teacher and data are known by their content, not by their names. What a run does not know yet (the data before a stage
needs them, the teacher's structure before it is captured) it takes from the first command that has it.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..contracts.context import Context
from ..data.content import alike, content_of
from ..errors import UsageError
from ..tools.shapes import text
from .records import NamedRecord, PassRecord, RunRecord
from .weights import weights_digest

KEY = "run"
_WORDS = {
    "teacher": "model (its weights or structure)",
    "inputs": "input shape",
    "data": "data",
    "seed": "seed",
}
_CODE = "model (the code of its forward, or settings of its layers such as stride, dilation or eps)"
_SAME_NAME = "data (other images or labels under the same name {}; a function that draws at random needs a fixed seed)"


def identity(context: Context) -> RunRecord:
    """Return what the run is bound to, as far as the context knows it."""
    data = context.data
    content = None if data is None else content_of(data.train, data.test)
    return RunRecord(
        teacher=weights_digest(context.model),
        inputs=tuple(text(tensor.shape[1:]) for tensor in context.example_inputs),
        data=None if data is None else data.name,
        seed=context.seed,
        structure="" if context.graph is None else context.graph.structure,
        content="" if content is None else content.digest,
        looks=() if content is None else content.looks,
    )


def check_identity(context: Context, *, record: bool = True) -> None:
    """Compare with what the run was made for, and record it (unless told not to) where the run is new.

    A run that was made without data takes the first data it is given, and one in which nothing was finished takes all.
    The teacher's structure is compared where the context has its graph.

    Raises:
        UsageError: names what differs and the ways out.
    """
    new, old = identity(context), context.store.get(RunRecord, KEY)
    if old is not None and not context.store.kinds() <= {RunRecord.kind, PassRecord.kind, NamedRecord.kind}:
        differing = dict(_differences(old, new))
        if differing:
            facts = "; ".join(fact for fact in differing.values() if fact)
            raise UsageError(
                f"run {context.store.root} was made with another {' and '.join(differing)}"
                f"{facts and f' ({facts})'}; give a new --output, or the same as before"
            )
        new = new.model_copy(update=_kept(old, new))
    if record and new != old:
        context.store.put(KEY, new)


def _differences(old: RunRecord, new: RunRecord) -> Iterator[tuple[str, str]]:
    """Yield what differs, in words, and how; what one of the two does not know is no difference."""
    known = old if old.data is not None and new.data is not None else old.model_copy(update={"data": new.data})
    for name, words in _WORDS.items():
        if getattr(known, name) != getattr(new, name):
            yield words, f"{words}: {_show(old, name)} then, {_show(new, name)} now"
    if old.structure and new.structure and old.structure != new.structure and old.teacher == new.teacher:
        yield _CODE, ""
    both = old.content and new.content and old.data == new.data
    if both and (old.content != new.content or not alike(new.looks, old.looks)):
        yield _SAME_NAME.format(new.data), ""


def _kept(old: RunRecord, new: RunRecord) -> dict[str, object]:
    """Return what the run knows and this command does not say anew."""
    kept: dict[str, object] = {"structure": old.structure or new.structure}
    if old.content or new.data is None:
        kept |= {"data": new.data or old.data, "content": old.content, "looks": old.looks}
    return kept


def _show(record: RunRecord, name: str) -> str:
    value = getattr(record, name)
    return " and ".join(value) if isinstance(value, tuple) else str(value)
