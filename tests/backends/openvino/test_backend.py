"""OpenVINO on the processor: real exports of small modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hant.backends.openvino.backend import OpenVinoBackend
from hant.backends.openvino.run import OpenVinoRunner
from hant.backends.targets.load import load_target
from hant.transformer.contracts.timing import Protocol
from hant.transformer.errors import CaptureError, LoadError, UsageError
from torch import Tensor, nn

pytest.importorskip("openvino")

BACKEND = OpenVinoBackend()
TARGET = load_target("cpu-openvino").model_copy(
    update={"protocol": Protocol(warmup_seconds=0.0, rounds=3, max_rounds=3, min_sample_ms=0.0)}
)


class Fickle(nn.Module):
    """Decides on the values it sees, which no graph can hold."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum().item() > 0 else -x


class Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x + 2 * y, x - y


def block() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.SiLU(), nn.AdaptiveAvgPool2d(1)).eval()


def image(samples: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(samples, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("openvino") / "block.lowered"
    BACKEND.lower(block(), [image()], TARGET, path, dynamic_batch=True)
    return path


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 5e-2)])
def test_it_computes_what_pytorch_does_for_any_batch(lowered: Path, precision: str, tolerance: float) -> None:
    target = TARGET.model_copy(update={"precision": precision})
    if BACKEND.unavailable(target) is not None:
        pytest.skip(f"no {precision} on this processor")
    runner = BACKEND.load(lowered, target)
    for samples in (1, 3):
        with torch.no_grad():
            expected = block()(image(samples)).numpy()
        (actual,) = runner(image(samples).numpy())
        assert actual.dtype == np.float32
        assert np.abs(actual - expected).max() <= tolerance


def test_outputs_stay_as_they_were_when_the_runner_runs_again(lowered: Path) -> None:
    runner = BACKEND.load(lowered, TARGET)
    (first,) = runner(image(seed=1).numpy())
    kept = first.copy()
    runner(image(seed=2).numpy())
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_prepared_call_runs_on_the_inputs_it_was_given(tmp_path: Path, dynamic: bool) -> None:
    path = tmp_path / "block.lowered"
    BACKEND.lower(block(), [image()], TARGET, path, dynamic_batch=dynamic)
    runner = BACKEND.load(path, TARGET)
    calls = {seed: runner.prepare(image(seed=seed).numpy()) for seed in (3, 4)}
    for seed, call in calls.items():
        (made,) = call().values()  # type: ignore[attr-defined]
        (expected,) = BACKEND.load(path, TARGET)(image(seed=seed).numpy())
        assert made == pytest.approx(expected, abs=1e-6)


def test_a_network_of_any_batch_is_timed_with_fixed_shapes(lowered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[bool] = []
    runner = OpenVinoRunner(lowered, TARGET)
    real = runner._compile

    def seen(model: Any) -> Any:
        compiled.append(model.is_dynamic())
        return real(model)

    monkeypatch.setattr(runner, "_compile", seen)
    for samples in (1, 3):
        runner.prepare(image(samples).numpy())()
    assert compiled == [False, False]


def test_inputs_and_outputs_keep_their_order(tmp_path: Path) -> None:
    BACKEND.lower(Sum(), [image(), image()], TARGET, tmp_path / "x")
    one, two = BACKEND.load(tmp_path / "x", TARGET)(image(seed=1).numpy(), image(seed=2).numpy())
    assert np.allclose(one, (image(seed=1) + 2 * image(seed=2)).numpy(), atol=1e-6)
    assert np.allclose(two, (image(seed=1) - image(seed=2)).numpy(), atol=1e-6)


def test_what_cannot_be_exported_does_not_stop_the_others(tmp_path: Path) -> None:
    paths = [tmp_path / "0", tmp_path / "1"]
    reasons = BACKEND.lower_many([Fickle(), nn.ReLU()], [[image()], [image()]], TARGET, paths)
    assert reasons[0] is not None
    assert reasons[0].startswith("cannot export Fickle to ONNX: ")
    assert reasons[1] is None
    assert [path.exists() for path in paths] == [False, True]
    with pytest.raises(CaptureError, match="cannot export Fickle to ONNX: "):
        BACKEND.lower(Fickle(), [image()], TARGET, paths[0])


def test_timings_share_their_rounds(lowered: Path) -> None:
    runners = [BACKEND.load(lowered, TARGET), BACKEND.load(lowered, TARGET)]
    one, two = BACKEND.time(runners, [[image().numpy()]] * 2, TARGET)
    assert len(one.samples) == len(two.samples) == 3
    assert one.ms > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no ONNX file at .*gone; run the export first"),
        (b"no graph", r"openvino cannot open .*gone: Unable to read the model\. .*; export it again"),
    ],
)
def test_a_file_that_cannot_be_opened(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "gone").write_bytes(content)
    with pytest.raises(LoadError, match=message) as caught:
        BACKEND.load(tmp_path / "gone", TARGET)
    assert "\n" not in str(caught.value)


def test_a_network_of_another_number_of_inputs(lowered: Path) -> None:
    with pytest.raises(UsageError, match="the network takes 1 inputs, but got 2"):
        BACKEND.load(lowered, TARGET)(image().numpy(), image().numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thread": 2}, "unknown option 'thread'; did you mean 'threads'"),
        ({"threads": 0}, "threads is 0; expected a whole number of at least 1"),
    ],
)
def test_options_that_make_no_sense(lowered: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BACKEND.load(lowered, TARGET.model_copy(update={"options": options}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"precision": "fp16"}, "the openvino backend has no fp16; it has fp32, bf16"),
        ({"device": "cuda"}, "the openvino backend has no device 'cuda'; it has cpu"),
    ],
)
def test_what_this_machine_cannot_run_is_said(changes: dict[str, object], reason: str | None) -> None:
    assert BACKEND.unavailable(TARGET.model_copy(update=changes)) == reason


def test_provenance_names_device_and_versions() -> None:
    found = BACKEND.provenance(TARGET)
    assert found["runtime"].startswith("openvino 20")
    assert (found["batch_size"], found["options"]) == ("1", "threads=1")
