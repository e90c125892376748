"""Making one recording out of runs at two batch sizes and in two modes."""

from __future__ import annotations

from typing import Any

from ...errors import CaptureError
from ...tools.nested import leaves, map_leaves
from .steps import InputDevice, PerSample, Recording, Ref, Step, StepKind, WhenTraining


def merge_batches(first: Recording, second: Recording) -> None:
    """Make integers of ``first`` that scale with the batch symbolic, by comparison with ``second``.

    An integer equal in both is a constant; one that is k times the batch in both becomes ``PerSample(k)``.

    Raises:
        CaptureError: the two runs differ in any other way.
    """
    if len(first.steps) != len(second.steps):
        raise CaptureError(_diverged(first, second))
    for a, b in zip(first.steps, second.steps, strict=True):
        if a.kind != b.kind or a.scope != b.scope or a.name != b.name:
            raise CaptureError(_diverged(first, second))
        merged = _Scaling(first.batch, second.batch, a)
        a.args = merged.value(a.args, b.args)
        a.kwargs = merged.value(a.kwargs, b.kwargs)
        if a.shape is not None and b.shape is not None:
            a.batch_dims = _batch_dims(a.shape, b.shape, first.batch, second.batch)
    first.output = _Scaling(first.batch, second.batch, None).value(first.output, second.output)


class _Scaling:
    """Compares the arguments of one step in two runs."""

    def __init__(self, first: int, second: int, step: Step | None) -> None:
        self.first, self.second, self.step = first, second, step

    def value(self, a: Any, b: Any) -> Any:
        if isinstance(a, tuple | list) and isinstance(b, tuple | list) and len(a) == len(b):
            items = [self.value(x, y) for x, y in zip(a, b, strict=True)]
            if hasattr(a, "_fields"):
                return type(a)(*items)
            return tuple(items) if isinstance(a, tuple) else items
        if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
            return {key: self.value(a[key], b[key]) for key in a}
        if isinstance(a, slice) and isinstance(b, slice):
            return slice(*(self.value(x, y) for x, y in ((a.start, b.start), (a.stop, b.stop), (a.step, b.step))))
        return self._leaf(a, b)

    def _leaf(self, a: Any, b: Any) -> Any:
        if isinstance(a, Ref | InputDevice) or type(a) is not type(b):
            if a == b:
                return a
        elif isinstance(a, int) and not isinstance(a, bool):
            if a == b:
                return a
            factor, rest = divmod(a, self.first)
            if rest == 0 and b == factor * self.second:
                return PerSample(factor)
        elif a is b or _same_object(a, b):
            return a
        what = "a value that the network returns"
        if self.step is not None:
            what = f"an argument of {self.step.name} at {self.step.source or 'an unknown line'}"
        raise CaptureError(
            f"{what} went from {a!r} to {b!r} when the "
            f"batch went from {self.first} to {self.second}; only values that do not depend on the batch or are a "
            "multiple of it can be captured"
        )


def _same_object(a: Any, b: Any) -> bool:
    """Return whether two runs gave the same; code may make an equal object, or a NaN, anew each run."""
    try:
        return bool(a == b) or bool(a != a and b != b) or repr(a) == repr(b)
    except (NotImplementedError, RuntimeError):
        return False


def merge_training(evaluation: Recording, training: Recording) -> str:
    """Make flags and rates that differ in training symbolic; return why it could not be done, or an empty string.

    Only steps that the result depends on, or that have effects, are compared, so counters of batches do not matter.
    """
    first, second = _live(evaluation), _live(training)
    number = {b.index: a.index for a, b in zip(first, second, strict=False)}
    changes: list[tuple[Step, tuple[Any, ...], dict[str, Any]]] = []
    if len(first) != len(second):
        return _diverged(evaluation, training, "in training mode")
    for a, b in zip(first, second, strict=True):
        if a.kind != b.kind or a.scope != b.scope or a.name != b.name:
            return _diverged(evaluation, training, "in training mode")
        try:
            args = _trained(a.args, map_leaves(b.args, lambda leaf: _renumbered(leaf, number)), evaluation.batch)
            kwargs = _trained(a.kwargs, map_leaves(b.kwargs, lambda leaf: _renumbered(leaf, number)), evaluation.batch)
        except ValueError:
            return _diverged(evaluation, training, "in training mode")
        changes.append((a, args, kwargs))
    for step, args, kwargs in changes:
        step.args, step.kwargs = args, kwargs
    return ""


def _trained(a: Any, b: Any, batch: int) -> Any:
    if isinstance(a, tuple | list) and type(a) is type(b) and len(a) == len(b) and not hasattr(a, "_fields"):
        return type(a)(_trained(x, y, batch) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return {key: _trained(a[key], b[key], batch) for key in a}
    if isinstance(a, slice):
        return a
    if isinstance(a, PerSample):
        if b == a.factor * batch:
            return a
        raise ValueError
    if isinstance(a, bool | float | int) and isinstance(b, bool | float | int) and a != b:
        if not a and (b is True or not isinstance(b, bool)):
            return WhenTraining(b)
        raise ValueError
    if a is b or a == b or (not isinstance(a, Ref) and _same_object(a, b)):
        return a
    raise ValueError


def _renumbered(leaf: Any, number: dict[int, int]) -> Any:
    return Ref(number.get(leaf.index, -1)) if isinstance(leaf, Ref) else leaf


def _live(recording: Recording) -> list[Step]:
    """Return the steps that the output depends on or that draw random numbers, with all they read, in order."""
    wanted = [leaf.index for leaf in leaves(recording.output) if isinstance(leaf, Ref)]
    wanted += [step.index for step in recording.steps if recording.has_effect(step)]
    seen = set(recording.inputs)
    while wanted:
        index = wanted.pop()
        if index not in seen:
            seen.add(index)
            wanted.extend(recording.steps[index].refs())
    return [step for step in recording.steps if step.index in seen]


def _batch_dims(first: tuple[int, ...], second: tuple[int, ...], b1: int, b2: int) -> tuple[tuple[int, int], ...]:
    return tuple(
        (dim, x // b1)
        for dim, (x, y) in enumerate(zip(first, second, strict=False))
        if x != y and x % b1 == 0 and y == x // b1 * b2
    )


def _diverged(first: Recording, second: Recording, when: str = "") -> str:
    """Say where two runs part."""
    when = when or f"at batch {second.batch} and at batch {first.batch}"
    for a, b in zip(first.steps, second.steps, strict=False):
        if a.kind != b.kind or a.name != b.name or a.scope != b.scope:
            if StepKind.ATTRIBUTE in (a.kind, b.kind) and a.source == b.source:
                continue
            scope = a.scope[-1] if a.scope else "the network"
            return (
                f"module {scope} does something else {when}: {a.name} at {a.source or 'unknown'} against "
                f"{b.name} at {b.source or 'unknown'}; its code branches there and one graph cannot hold both"
            )
    return f"the network does more work {when}: {len(second.steps)} operations instead of {len(first.steps)}"
