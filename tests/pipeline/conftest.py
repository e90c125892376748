"""A real context on a small network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hant.backends.onnxruntime.backend import OnnxRuntimeBackend
from hant.backends.targets.load import load_target
from hant.op_library.pools import pool
from hant.transformer.contracts.context import Context
from hant.transformer.runs.store import RunStore
from torch import nn


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1)), nn.Flatten())
    with RunStore(tmp_path / "run") as store:
        yield Context(
            model=model.eval(),
            example_inputs=(torch.zeros(2, 1, 4, 4),),
            store=store,
            target=load_target("cpu-ort"),
            backend=OnnxRuntimeBackend(),
            pool=pool("teacher,identity"),
        )
