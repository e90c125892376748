"""Preflight: what would fail hours later is tried on a few samples, before the first stage that takes time.

1. The options of all stages that are to run.
2. The data's images and labels: their type, and whether they fit the network's inputs and outputs.
3. One step of everything that is done to networks: a forward, the loss, the metric, a copy, a training step of it, the
   checkpoint and the runtime's file.

A run is examined once, and again where its teacher, data or target are others.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts.context import Context
from ..contracts.data import Data
from ..contracts.pass_ import Pass
from ..contracts.task import Classification
from ..data.check import label_range
from ..data.images import batches
from ..data.splits import split, take
from ..errors import CaptureError, HantError, UsageError
from ..files.save import save
from ..runs.fingerprint import digest
from ..runs.identity import identity
from ..runs.processes import processes
from ..tools.copied import copied
from ..tools.own_words import own_words

EVENT = "preflight"
"""What the run notes when it has been examined."""
_FEW = 4
"""Images of the step: more than one, for batch norms in training."""
_JUDGED = 128
"""Held-out images by which a teacher near chance is noticed, as far as they are seen within ``_SECONDS``."""
_SECONDS = 5.0
_SIGMAS = 3.0
"""Standard errors above chance that a teacher is expected to have at least."""


def preflight(context: Context, stages: Sequence[Pass]) -> None:
    """Try what ``stages`` will do, unless this was done for the run before; log what the user should know.

    Raises:
        UsageError: an option, the data or the network cannot work; the message says what to change.
    """
    check_options(context, stages)
    if context.graph is None or not processes().main:
        return
    made_for = digest([identity(context).model_dump(), context.target.fingerprint])
    if any(passed.get("of") == made_for for _, passed in context.store.events(EVENT)):
        return
    start = time.perf_counter()
    if context.data is not None:
        for note in context.data.notes:
            context.progress.log(note)
        check_task(context, context.data)
        check_accuracy(context, context.data)
    check_files(context)
    context.store.event(EVENT, of=made_for, seconds=time.perf_counter() - start)


def check_options(context: Context, stages: Sequence[Pass]) -> None:
    """Let every stage refuse what it can see that it will not be able to do.

    Raises:
        UsageError: what a stage says.
    """
    for stage in stages:
        stage.check(context)


def check_task(context: Context, data: Data) -> None:
    """Take some training images through the network, the loss, the metric, and a training step of a copy.

    Raises:
        UsageError: images, labels and network do not fit together, or one of the steps fails.
    """
    with _told(f"the first {_FEW} images of data {data.name} cannot be made a batch"):
        images, targets = next(iter(batches(take(data.train, _FEW), _FEW, device=context.device)))
    wanted = context.example_inputs[0].dtype
    if images.dtype != wanted:
        raise UsageError(
            f"data {data.name} has images of {_name(images.dtype)}, the network is captured for {_name(wanted)}; "
            f"return image.float(){'' if images.is_floating_point() else ' / 255, normalised as in training'}"
        )
    network = _copied(context.teacher.network, context.device)
    with torch.no_grad(), _told(f"the network fails on images of data {data.name}"):
        outputs = network(images)
    task = data.task
    if isinstance(task, Classification):
        _check_outputs(context, data, outputs, len(images))
    with torch.no_grad(), _told(f"loss and metric of {_task(data)} fail"):
        loss, metric = task.totals(outputs, images, targets)
    if not math.isfinite(loss) or not math.isfinite(metric):
        raise UsageError(
            f"the teacher's loss on data {data.name} is {loss}, its metric {metric}, expected finite numbers; are its "
            "weights right, and the images normalised as in training?"
        )
    _check_training(network, data, images, targets)


def _check_outputs(context: Context, data: Data, outputs: Any, count: int) -> None:
    """Refuse outputs that are no logits, and labels that the network has no output for."""
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != count:
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UsageError(
            f"the network returns {shape} for {count} images, expected logits ({count}, classes); give --submodule for "
            "the part that classifies, or hant.Data(..., task=...) if it is no classifier"
        )
    classes, (low, high) = outputs.shape[1], label_range(data)
    if low < 0 or high >= classes:
        shifted = "; labels begin at 0" if low == 1 and high == classes else ""
        raise UsageError(
            f"data {data.name} has labels {low} to {high}, the network has {classes} outputs, which are classes 0 to "
            f"{classes - 1}{shifted}; give the data whose classes the network tells apart"
        )
    if high + 1 < classes:
        context.progress.log(
            f"warning: data {data.name} has labels up to {high}, the network {classes} classes; labels must be the "
            "places of the network's own outputs"
        )


def _check_training(network: nn.Module, data: Data, images: Tensor, targets: Any) -> None:
    """Train ``network``, a copy, for one step without an optimizer."""
    teacher = _copied(network, images.device)
    network.train()
    with (
        torch.random.fork_rng(devices=[]),
        torch.enable_grad(),
        _told("a training step of a copy of the network fails"),
    ):
        if isinstance(data.task, Classification):
            outputs = network(images)
            logits = outputs if isinstance(outputs, Tensor) else outputs[0]  # further outputs are for training alone
            loss = data.task.loss(logits, images, targets)
        else:
            loss = data.task.train_loss(network, teacher, images, targets)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]


def check_accuracy(context: Context, data: Data) -> None:
    """Warn where the teacher is not better than chance on held-out images."""
    if not isinstance(data.task, Classification):
        return
    network, held_out = _copied(context.teacher.network, context.device), split(data, context.seed).held_out
    right = seen = classes = 0
    end = time.monotonic() + _SECONDS
    with torch.no_grad(), _told(f"the teacher cannot be evaluated on data {data.name}"):
        for images, targets in batches(take(held_out, _JUDGED), 32, device=context.device):
            logits = network(images)
            right += int((logits.argmax(1) == targets).sum())
            seen, classes = seen + len(images), logits.shape[1]
            if time.monotonic() > end:
                break
    chance = 1 / classes
    if right / seen <= chance + _SIGMAS * math.sqrt(chance * (1 - chance) / seen):
        context.progress.log(
            f"warning: the teacher is right on {right} of {seen} held-out images, which is near chance for {classes} "
            "classes; do the labels belong to its outputs, and are the images normalised as in its training?"
        )


def check_files(context: Context) -> None:
    """Write the network as a checkpoint and as the runtime's file, and throw both away.

    Raises:
        CaptureError: the runtime's file cannot be written; the message names the operation.
    """
    network = _copied(context.teacher.network, torch.device("cpu"))
    with _folder(context) as folder:
        try:
            save(network, folder / "network.safetensors", context.example_inputs)
        except CaptureError as error:  # the runtime's file can still be written
            context.progress.log(f"warning: a student of this network cannot be saved for hant.load: {error}")
        try:
            context.backend.lower(
                network, context.example_inputs, context.target, folder / "network.lowered", dynamic_batch=True
            )
        except CaptureError as error:
            raise CaptureError(f"a student of this network could not be exported: {error}") from error
        except UsageError:
            if context.backend.unavailable(context.target) is None:
                raise


@contextmanager
def _folder(context: Context) -> Iterator[Path]:
    """Yield a folder for files that nobody keeps."""
    context.store.scratch.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=context.store.scratch) as folder:
            yield Path(folder)
    finally:
        context.store.clear_scratch()


def _copied(network: nn.Module, device: torch.device) -> nn.Module:
    return copied(network)[0].to(device).eval()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn an error of the user's code into one line."""
    try:
        yield
    except (HantError, MemoryError):
        raise
    except Exception as error:
        raise UsageError(f"{what}: {own_words(error)}; mend it before anything is trained") from error


def _task(data: Data) -> str:
    return f"task {data.task.name!r}" if data.task.name else f"data {data.name}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
