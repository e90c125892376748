"""Recording a network: the runs, at two batch sizes and in training where it matters."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ..errors import CaptureError, HantError
from .arguments import resized, tensors_of
from .leaf import LeafPolicy, designers_leaf
from .macs import MacCounter
from .memory import Write
from .merge import merge_batches, merge_training
from .own_words import own_words
from .patches import module_calls
from .preserve import evaluating, preserved
from .recorder import Recorder
from .recording import Recording, Ref, StepKind, leaves

BATCHES = (2, 3)
"""Batch sizes of the two runs. 1 would broadcast, and equal multiples must not meet."""


def record(model: nn.Module, inputs: Sequence[Any], is_leaf: LeafPolicy = designers_leaf) -> Recording:
    """Record how ``model`` computes its output from ``inputs``, its arguments: tensors, or nests of them.

    The model runs on fake tensors (shapes without data), once per batch size of ``BATCHES``; where an operation has no
    fake form, on random data. Dimension 0 of the first input is the batch; other inputs with that size follow it.
    The model is in eval mode while it runs and is left as it was.

    Raises:
        CaptureError: what the model does cannot be held by one graph, with the line that says so.
    """
    opaque: dict[nn.Module, tuple[str, str, str]] = {}
    while True:
        recording, culprits = _record_once(model, inputs, _keeping(is_leaf, opaque.keys()))
        if not culprits:
            recording.notes += opaque.values()
            return recording
        more = {model.get_submodule(path): _whole(path, write) for path, write in culprits.items() if path}
        if "" in culprits or not more.keys() - opaque.keys():
            raise CaptureError(
                "the network writes in place into a tensor that it reads again through another view, outside of any "
                f"module that could be kept whole ({culprits.get('', next(iter(culprits.values())))}); "
                "write x = x + y there instead of x += y"
            )
        opaque |= more


def _whole(path: str, write: Write) -> tuple[str, str, str]:
    reason = f"kept whole, because its {write.name} writes into a tensor that is read again through another view"
    return path, reason, write.source


def _keeping(is_leaf: LeafPolicy, opaque: Set[nn.Module]) -> LeafPolicy:
    return lambda module, tensors: module in opaque or is_leaf(module, tensors)


def _record_once(model: nn.Module, inputs: Sequence[Any], is_leaf: LeafPolicy) -> tuple[Recording, dict[str, Write]]:
    with evaluating(model):
        try:
            first, culprits = _run(model, inputs, BATCHES[0], is_leaf, fake=True)
            fake = True
        except HantError:
            raise
        except Exception:  # any error of the user's code; run on data tells whether it is the fake tensors' fault
            first, culprits = _run(model, inputs, BATCHES[0], is_leaf, fake=False)
            fake = False
        if culprits:
            return first, culprits
        second = _second(model, inputs, is_leaf, fake)
        merge_batches(first, second)
        if reads_mode(first):
            model.train()
            _merge_training(first, model, inputs, is_leaf, fake)
    return first, {}


def _second(model: nn.Module, inputs: Sequence[Any], is_leaf: LeafPolicy, fake: bool) -> Recording:
    try:
        return _run(model, inputs, BATCHES[1], is_leaf, fake=fake)[0]
    except HantError:
        raise
    except Exception as error:
        raise CaptureError(
            f"the network runs on a batch of {BATCHES[0]} and fails on one of {BATCHES[1]}: {own_words(error)}; "
            "dimension 0 must be a batch of any size"
        ) from error


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keep torch from logging a page for each operation that fails on fake tensors: what fails is told in one line."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    logger.disabled, before = True, logger.disabled
    try:
        yield
    finally:
        logger.disabled = before


def _merge_training(first: Recording, model: nn.Module, inputs: Sequence[Any], is_leaf: LeafPolicy, fake: bool) -> None:
    try:
        training, culprits = _run(model, inputs, BATCHES[0], is_leaf, fake)
        reason = "writes in place in training only" if culprits else merge_training(first, training)
    except Exception as error:  # the model does not train on this input; evaluation is not affected
        reason = f"fails in training mode: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    if reason:
        first.notes.append(("", f"the graph holds evaluation only; {reason}", ""))


def _run(
    model: nn.Module, inputs: Sequence[Any], batch: int, is_leaf: LeafPolicy, fake: bool
) -> tuple[Recording, dict[str, Write]]:
    """Run the model once and return what it did, with the modules whose in-place writes cannot be recorded."""
    mode = FakeTensorMode(allow_non_fake_inputs=True) if fake else contextlib.nullcontext()
    counter = MacCounter()
    recorder = Recorder(model, is_leaf, counter, tensors_of(inputs)[0].device)
    with preserved(model), torch.no_grad(), mode, counter, module_calls(recorder), _unlogged():
        given = resized(inputs, batch)
        entries = tuple(recorder.enter_input(i, tensor) for i, tensor in enumerate(tensors_of(given)))
        arguments = recorder.referred(given)
        try:
            with recorder:
                output = model(*given)
                with recorder.unrecorded():
                    returned = recorder.referred(output)
        except HantError:
            raise
        except Exception as error:
            if fake:
                raise
            raise CaptureError(_failure(error, recorder, tensors_of(given))) from error
    for step in recorder.steps:
        step.macs //= batch
    recording = Recording(
        model, recorder.steps, recorder.calls, entries, arguments, returned, recorder.constants, batch, recorder.notes
    )
    culprits = {_path(recording, write.scope): write for write in recorder.memory.culprits}
    if not culprits:  # otherwise the recording is not used, and what is wrong with it follows from the writes
        _check(recording)
        _check_output(recording)
    return recording, culprits


def _path(recording: Recording, scope: tuple[str, ...]) -> str:
    return recording.calls[scope[-1]].path if scope else ""


def _failure(error: Exception, recorder: Recorder, inputs: Sequence[Tensor]) -> str:
    shapes = ", ".join("x".join(map(str, t.shape)) for t in inputs)
    where = recorder.failed_in or "the network"
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{where} fails on an input of shape {shapes}: {type(error).__name__}: {first}; check --input-shape"


def _check(recording: Recording) -> None:
    """Refuse values that appear from nowhere: operations that bypass torch's functions."""
    from torch._subclasses.fake_tensor import FakeTensor

    for name, tensor in recording.constants.items():
        if isinstance(tensor, FakeTensor):
            reader = next(
                (s for s in recording.steps if any(recording.steps[r].target == name for r in s.refs())), None
            )
            where = f" read by {reader.name} at {reader.source}" if reader is not None else ""
            raise CaptureError(
                f"a tensor of shape {tuple(tensor.shape)}{where} was made by code that torch's functions do not see "
                "(an extension or a custom operator); wrap it in a torch function or keep it out with --submodule"
            )


def _check_output(recording: Recording) -> None:
    for leaf in leaves(recording.output):
        if not (leaf is None or isinstance(leaf, Ref | int | float | str)):
            raise CaptureError(
                f"the network returns a {type(leaf).__name__}; return tensors, or tuples, lists and dicts of them"
            )


def reads_mode(recording: Recording) -> bool:
    """Return whether any module of the user's looks at its training flag.

    Layers are left out; of a module that is kept whole all inside counts, as it may return its input in one mode only.
    """
    kinds = {type(call.module) for call in recording.calls.values() if not call.leaf}
    kinds |= {type(m) for c in recording.calls.values() if c.leaf for m in c.module.modules() if m is not c.module}
    by_flag = any(_mentions_training(kind) for kind in kinds)
    return by_flag or any(
        "training" in s.kwargs or "dropout" in s.name for s in recording.steps if s.kind is StepKind.CALL
    )


def _mentions_training(kind: type[nn.Module]) -> bool:
    if kind.__module__.startswith("torch.nn.modules.container"):
        return False
    return any("training" in code.co_names for code in _code(kind))


def _code(kind: type) -> Iterator[Any]:
    for owner in _own(kind.__mro__):
        for value in vars(owner).values():
            if inspect.isfunction(value):
                yield value.__code__


def _own(mro: Iterable[type]) -> Iterator[type]:
    return (owner for owner in mro if owner not in (nn.Module, object))
