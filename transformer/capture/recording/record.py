"""Recording a network: the runs, at two batch sizes and in training where it matters."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ....op_library.cost import MacCounter
from ...errors import CaptureError, HantError
from ...tools.modes import evaluating, preserved
from ...tools.nested import form, leaves
from ...tools.own_words import own_words
from ..arguments import resized, tensors_of
from .memory import Write
from .merge import merge_batches, merge_training
from .patches import module_calls
from .recorder import Recorder
from .steps import Recording, Ref, StepKind
from .surroundings import LeafPolicy, designers_leaf

BATCHES = (2, 257)
"""Batch sizes of the two runs on fake tensors. 1 would broadcast, equal multiples must not meet, and what a model does
from some batch on (``x[:min(len(x), 64)]``) shows at a large one only; it costs nothing without data."""
BATCHES_OF_DATA = (2, 5)
"""Batch sizes of the two runs where an operation has no fake form."""
_DEEPEST = 100


@dataclass(frozen=True)
class _Setup:
    """What is recorded, and how."""

    model: nn.Module
    inputs: Sequence[Any]
    is_leaf: LeafPolicy
    by_place: bool


def record(
    model: nn.Module, inputs: Sequence[Any], is_leaf: LeafPolicy = designers_leaf, by_place: bool = False
) -> Recording:
    """Record how ``model`` computes its output from ``inputs``, its arguments: tensors, or nests of them.

    The model runs on fake tensors (shapes without data), once per batch size of ``BATCHES``; where an operation has no
    fake form, on random data. Dimension 0 of the first input is the batch; other inputs with that size follow it.
    The model is in eval mode while it runs and is left as it was. ``by_place``: see ``Recorder``.

    Raises:
        CaptureError: what the model does cannot be held by one graph, with the line that says so.
    """
    _check_depth(model)
    opaque: dict[nn.Module, tuple[str, str, str]] = {}
    while True:
        recording, culprits = _record_once(_Setup(model, inputs, _keeping(is_leaf, opaque.keys()), by_place))
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


def _check_depth(model: nn.Module) -> None:
    """Refuse modules that are nested deeper than Python's stack lets them be copied, saved and exported later."""
    deepest = max(name.count(".") + 1 for name, _ in model.named_modules())
    if deepest > _DEEPEST:
        raise CaptureError(
            f"the modules of the network are nested {deepest} deep; at most {_DEEPEST} can be copied and exported, so "
            "put what is chained into one nn.Sequential"
        )


def _whole(path: str, write: Write) -> tuple[str, str, str]:
    reason = f"kept whole, because its {write.name} writes into a tensor that is read again through another view"
    return path, reason, write.source


def _keeping(is_leaf: LeafPolicy, opaque: Set[nn.Module]) -> LeafPolicy:
    return lambda module, tensors: module in opaque or is_leaf(module, tensors)


def _record_once(setup: _Setup) -> tuple[Recording, dict[str, Write]]:
    with evaluating(setup.model):
        try:
            first, culprits = _run(setup, BATCHES[0], fake=True)
            fake = True
        except HantError:
            raise
        except Exception:  # any error of the user's code; run on data tells whether it is the fake tensors' fault
            first, culprits = _run(setup, BATCHES_OF_DATA[0], fake=False)
            fake = False
        if culprits:
            return first, culprits
        second = _second(setup, (BATCHES if fake else BATCHES_OF_DATA)[1], fake)
        merge_batches(first, second)
        if reads_mode(first):
            setup.model.train()
            _merge_training(first, setup, fake)
    return first, {}


def _second(setup: _Setup, batch: int, fake: bool) -> Recording:
    try:
        return _run(setup, batch, fake)[0]
    except HantError:
        raise
    except Exception as error:
        raise CaptureError(
            f"the network runs on a batch of {BATCHES[0]} and fails on one of {batch}: {own_words(error)}; "
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


def _merge_training(first: Recording, setup: _Setup, fake: bool) -> None:
    try:
        training, culprits = _run(setup, first.batch, fake)
        first.returns_more = form(training.output) != form(first.output)
        reason = "writes in place in training only" if culprits else merge_training(first, training)
        if first.returns_more:
            reason = "in training the network returns other outputs beside, which a student does not have"
    except Exception as error:  # the model does not train on this input; evaluation is not affected
        reason = f"fails in training mode: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    if reason:
        first.notes.append(("", f"the graph holds evaluation only; {reason}", ""))


def _run(setup: _Setup, batch: int, fake: bool) -> tuple[Recording, dict[str, Write]]:
    """Run the model once and return what it did, with the modules whose in-place writes cannot be recorded."""
    mode = FakeTensorMode(allow_non_fake_inputs=True) if fake else contextlib.nullcontext()
    counter, model, inputs = MacCounter(), setup.model, setup.inputs
    recorder = Recorder(model, setup.is_leaf, counter, tensors_of(inputs)[0].device, setup.by_place)
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
