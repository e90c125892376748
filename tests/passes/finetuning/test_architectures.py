"""Whatever the network is made of and however short the training, the student is not worse than what it started from.

Six kinds of networks on the embedded digits; in their students every second block is a candidate that was hardly
trained. Compared on test images, which nothing of the training has seen.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hant.passes.finetuning.align import AlignPass
from hant.passes.finetuning.finetune import FinetunePass
from hant.passes.finetuning.records import AlignmentRecord
from hant.passes.finetuning.start import student
from hant.passes.networks.assemble import load_student
from hant.passes.networks.evaluate import evaluate
from hant.passes.ranking.records import WinnerRecord
from hant.tests.passes.finetuning.architectures import ARCHITECTURES, open_run, reopen, teacher
from hant.transformer.contracts.context import Context
from hant.transformer.data.images import size
from hant.transformer.runs.store import RunStore
from torch import Tensor, nn

_RUNS: dict[str, tuple[nn.Module, Path]] = {}


def opened(name: str, tmp_path: Path, factory: pytest.TempPathFactory) -> Context:
    """Open a run of its own of the architecture; the teacher is trained once."""
    if name not in _RUNS:
        network, root = teacher(name), factory.mktemp(name) / "run"
        open_run(root, network).store.close()
        _RUNS[name] = network, root
    network, root = _RUNS[name]
    shutil.copytree(root, tmp_path / "run")
    return reopen(RunStore(tmp_path / "run"), network)


def top1(context: Context, network: nn.Module) -> float:
    return evaluate(network, context.dataset.test).accuracy


def noise(context: Context, accuracy: float) -> float:
    """Two standard errors of an accuracy (percent) that is as sure as one wrong image in twenty at least."""
    share = min(max(accuracy / 100, 0.05), 0.95)
    return 200 * math.sqrt(share * (1 - share) / size(context.dataset.test))


def start_of(context: Context, weights: Mapping[str, Tensor] | None = None) -> nn.Module:
    winner = context.store.get(WinnerRecord, "winner")
    assert winner is not None
    network = student(context, winner.choice).network
    if weights is not None:
        network.load_state_dict(weights)
    return network


def check(context: Context, align: AlignPass, finetune: FinetunePass) -> None:
    """Train, and compare each stage with what it started from."""
    before = top1(context, start_of(context))
    align.run(context)
    record = context.store.get(AlignmentRecord, "alignment")
    assert record is not None
    aligned = top1(context, start_of(context, context.store.load_tensors(record.file)))
    finetune.run(context)
    after = top1(context, load_student(context).network)
    assert aligned >= before - noise(context, before)
    assert after >= aligned - noise(context, aligned)


@pytest.mark.parametrize("name", ["vgg", "mobilenet"])
def test_a_short_training_ruins_nothing(name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.set_num_threads(1)
    check(opened(name, tmp_path, tmp_path_factory), AlignPass(epochs=1, batch_size=64), FinetunePass(epochs=1))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("epochs", [1, 4, None])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_number_of_epochs_ruins_an_architecture(
    name: str, epochs: int | None, optimizer: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    torch.set_num_threads(1)
    context = opened(name, tmp_path, tmp_path_factory)
    check(context, AlignPass(epochs=epochs), FinetunePass(epochs=epochs, optimizer=optimizer))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("epochs", [1, 4, None])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_fine_tuning_alone_ruins_no_architecture(
    name: str, epochs: int | None, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    torch.set_num_threads(1)
    context = opened(name, tmp_path, tmp_path_factory)
    check(context, AlignPass(epochs=0), FinetunePass(epochs=epochs))
