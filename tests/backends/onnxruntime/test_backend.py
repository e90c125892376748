"""Lowering to ONNX and running it: real exports of small modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hant.backends.onnxruntime.backend import OnnxRuntimeBackend
from hant.backends.targets.load import load_target
from hant.transformer.contracts.target import Target
from hant.transformer.contracts.timing import Protocol
from hant.transformer.errors import CaptureError, LoadError, UsageError
from torch import Tensor, nn

BACKEND = OnnxRuntimeBackend()
TARGET = load_target("cpu-ort").model_copy(
    update={"protocol": Protocol(warmup_seconds=0.0, rounds=3, max_rounds=3, min_sample_ms=0.0)}
)


class Fickle(nn.Module):
    """Decides on the values it sees, which no graph can hold."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum().item() > 0 else -x


def block(channels: int = 4, kernel: int = 3) -> nn.Module:
    torch.manual_seed(channels * 10 + kernel)
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(channels), nn.SiLU()
    )


def image(channels: int = 4, samples: int = 1) -> Tensor:
    return torch.randn(samples, channels, 8, 8, generator=torch.Generator().manual_seed(samples))


def agrees(module: nn.Module, path: Path, *inputs: Tensor) -> bool:
    with torch.no_grad():
        expected = module.eval()(*inputs)
    (actual,) = BACKEND.load(path, TARGET)(*(tensor.numpy() for tensor in inputs))
    return np.allclose(actual, expected.numpy(), atol=1e-5)


def test_a_lowered_module_computes_what_pytorch_does(tmp_path: Path) -> None:
    path = tmp_path / "block.onnx"
    BACKEND.lower(block(), [image()], TARGET, path)
    assert agrees(block(), path, image())
    assert [item.name for item in tmp_path.iterdir()] == ["block.onnx"]


def test_a_dynamic_batch_takes_any_number_of_samples(tmp_path: Path) -> None:
    path = tmp_path / "block.onnx"
    BACKEND.lower(block(), [image()], TARGET, path, dynamic_batch=True)
    for samples in (1, 2, 5):
        assert agrees(block(), path, image(samples=samples))


def test_a_fixed_batch_is_the_examples(tmp_path: Path) -> None:
    path = tmp_path / "block.onnx"
    BACKEND.lower(block(), [image(samples=3)], TARGET, path)
    shape = onnx.load(path).graph.input[0].type.tensor_type.shape
    assert [dim.dim_value for dim in shape.dim] == [3, 4, 8, 8]


def test_each_submodule_gets_its_mode_back(tmp_path: Path) -> None:
    module = nn.Sequential(block(), block())
    module.train()
    module[1].eval()
    before = [part.training for part in module.modules()]
    BACKEND.lower(module, [image()], TARGET, tmp_path / "x.onnx")
    BACKEND.lower_many([module], [[image()]], TARGET, [tmp_path / "y.onnx"])
    assert [part.training for part in module.modules()] == before


def test_lowering_is_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    module = block().train()
    BACKEND.lower(module, [image()], TARGET, tmp_path / "x.onnx")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_modules_lowered_together_are_those_lowered_alone(tmp_path: Path) -> None:
    first, last, shared = block(4, 1), block(4, 5), image()
    middles: list[nn.Module] = [block(4, 3), nn.Identity(), block(4, 1), nn.ReLU()]
    modules: list[nn.Module] = [nn.Sequential(first, middle, last) for middle in middles]
    modules += [nn.Identity(), nn.Sequential(nn.Identity(), nn.Identity()), block(6)]
    inputs = [shared] * 6 + [image(6)]
    paths = [tmp_path / f"{index}.onnx" for index in range(len(modules))]
    assert BACKEND.lower_many(modules, [[tensor] for tensor in inputs], TARGET, paths) == (None,) * len(modules)
    for module, tensor, path in zip(modules, inputs, paths, strict=True):
        assert agrees(module, path, tensor)


def test_a_module_that_cannot_be_exported_does_not_stop_the_others(tmp_path: Path) -> None:
    modules = [block(4, 1), Fickle(), block(4, 3)]
    paths = [tmp_path / f"{index}.onnx" for index in range(3)]
    reasons = BACKEND.lower_many(modules, [[image()]] * 3, TARGET, paths)
    assert reasons[0] is None
    assert reasons[2] is None
    assert reasons[1] is not None
    assert reasons[1].startswith("cannot export Fickle to ONNX: ")
    assert "\n" not in reasons[1]
    assert [path.exists() for path in paths] == [True, False, True]


def test_a_sequence_that_cannot_run_says_which_part(tmp_path: Path) -> None:
    (reason,) = BACKEND.lower_many([nn.Sequential(block(4), block(6))], [[image()]], TARGET, [tmp_path / "x.onnx"])
    assert reason is not None
    assert reason.startswith("cannot run Sequential on (1, 4, 8, 8): ")


def test_what_cannot_be_exported_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"^cannot export Fickle to ONNX: [^\n]+$"):
        BACKEND.lower(Fickle(), [image()], TARGET, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_timings_of_several_runners_share_their_rounds(tmp_path: Path) -> None:
    path = tmp_path / "block.onnx"
    BACKEND.lower(block(), [image()], TARGET, path)
    runner = BACKEND.load(path, TARGET)
    one, two = BACKEND.time([runner, runner], [[image().numpy()]] * 2, TARGET)
    assert len(one.samples) == len(two.samples) == 3
    assert one.ms > 0
    assert not one.estimated


def test_prepare_runs_on_the_inputs_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "block.onnx"
    BACKEND.lower(block(), [image()], TARGET, path)
    call = BACKEND.load(path, TARGET).prepare(image().numpy())
    assert call() is None
    assert call() is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no ONNX file at .*gone\.onnx; run the export first"),
        (b"no graph", r"onnxruntime cannot open .*; export"),
    ],
)
def test_a_file_that_cannot_be_opened(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "gone.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LoadError, match=message):
        BACKEND.load(path, TARGET)


def test_a_network_of_another_number_of_inputs(tmp_path: Path) -> None:
    path = tmp_path / "block.onnx"
    BACKEND.lower(block(), [image()], TARGET, path)
    with pytest.raises(UsageError, match="the network takes 1 inputs, but got 2"):
        BACKEND.load(path, TARGET)(image().numpy(), image().numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thread": 2}, "unknown option 'thread'; did you mean 'threads'"),
        ({"threads": 0}, "threads is 0; expected a whole number of at least 1"),
        ({"graph_optimization": "al"}, "unknown graph_optimization 'al'; did you mean 'all'"),
        ({"provider": "cuba"}, "unknown provider 'cuba'; did you mean 'cuda'"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, object], message: str) -> None:
    path = tmp_path / "block.onnx"
    BACKEND.lower(nn.ReLU(), [image()], TARGET, path)
    with pytest.raises(UsageError, match=message):
        BACKEND.load(path, TARGET.model_copy(update={"options": options}))


def test_what_this_machine_cannot_run_is_said() -> None:
    half = TARGET.model_copy(update={"precision": "fp16"})
    assert BACKEND.unavailable(TARGET) is None
    assert BACKEND.unavailable(half) == ("the onnxruntime backend runs fp32 only, and target 'cpu-ort' asks for fp16")


def test_provenance_names_device_and_versions() -> None:
    found = BACKEND.provenance(Target(name="x", backend="onnxruntime", batch_size=4, options={"threads": 2}))
    assert found["runtime"].startswith("onnxruntime 1.")
    assert found["batch_size"] == "4"
    assert found["options"] == "threads=2"
    assert found["device"]
