"""Engines on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hant.backends.tensorrt import support
from hant.backends.tensorrt.backend import TensorRTBackend
from hant.backends.tensorrt.options import FLAVOURS
from hant.transformer.contracts.target import Target
from hant.transformer.contracts.timing import Protocol
from hant.transformer.errors import UsageError
from torch import Tensor, nn

pytestmark = pytest.mark.gpu


@pytest.fixture(params=FLAVOURS)
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    found = Target(
        name="here",
        backend="tensorrt",
        device="cuda",
        batch_size=4,
        options={"flavour": request.param},
        protocol=Protocol(warmup_seconds=0.0, rounds=3, max_rounds=3, min_sample_ms=0.0),
    )
    reason = support.why_not(found)
    if reason is not None:
        pytest.skip(reason)
    return found


def block() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.SiLU(), nn.Conv2d(16, 8, 1)).eval()


def image(samples: int = 4) -> Tensor:
    return torch.randn(samples, 8, 14, 14, generator=torch.Generator().manual_seed(samples))


@pytest.mark.parametrize(("precision", "share"), [("fp32", 1e-3), ("fp16", 1e-2), ("int8", 0.25)])
def test_it_computes_what_pytorch_does(tmp_path: Path, target: Target, precision: str, share: float) -> None:
    target = target.model_copy(update={"precision": precision})
    backend = TensorRTBackend()
    backend.lower(block(), [image()], target, tmp_path / "x", dynamic_batch=True)
    runner = backend.load(tmp_path / "x", target)
    for samples in (1, 4, 300):  # 300 are more than an engine takes at once
        with torch.no_grad():
            expected = block()(image(samples)).numpy()
        (actual,) = runner(image(samples).numpy())
        assert actual.dtype == np.float32
        assert np.abs(actual - expected).max() < share * np.abs(expected).max()


def test_an_engine_is_built_again_in_another_process(tmp_path: Path, target: Target) -> None:
    TensorRTBackend().lower(block(), [image()], target, tmp_path / "x")
    (first,) = TensorRTBackend().load(tmp_path / "x", target)(image().numpy())
    (second,) = TensorRTBackend().load(tmp_path / "x", target)(image().numpy())
    assert np.allclose(first, second, atol=1e-3)
    assert list((tmp_path / "caches" / "hant").iterdir())


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_timings_share_their_rounds_and_more_work_takes_longer(
    tmp_path: Path, target: Target, cuda_graph: bool
) -> None:
    target = target.model_copy(update={"options": {**target.options, "cuda_graph": cuda_graph}})
    backend, long = TensorRTBackend(), nn.Sequential(*[block() for _ in range(16)])
    for name, module in (("short", block()), ("long", long)):
        backend.lower(module, [image()], target, tmp_path / name)
    runners = [backend.load(tmp_path / name, target) for name in ("short", "long")]
    short_time, long_time = backend.time(runners, [[image().numpy()]] * 2, target)
    assert len(short_time.samples) == len(long_time.samples) == 3
    assert 0 < short_time.ms < long_time.ms
    assert not short_time.estimated


def test_a_network_of_another_number_of_inputs(tmp_path: Path, target: Target) -> None:
    backend = TensorRTBackend()
    backend.lower(block(), [image()], target, tmp_path / "x")
    with pytest.raises(UsageError, match="the network takes 1 inputs, but got 2"):
        backend.load(tmp_path / "x", target)(image().numpy(), image().numpy())
