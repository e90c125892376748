"""PyTorch as a runtime: real exports of small modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hant.backends.pytorch.backend import PyTorchBackend
from hant.backends.targets.load import load_target
from hant.transformer.contracts.timing import Protocol
from hant.transformer.errors import CaptureError, LoadError, UsageError
from hant.transformer.files.save import save
from torch import Tensor, nn

BACKEND = PyTorchBackend()
TARGET = load_target("cpu-torch").model_copy(
    update={"protocol": Protocol(warmup_seconds=0.0, rounds=3, max_rounds=3, min_sample_ms=0.0)}
)


class Fickle(nn.Module):
    """Decides on the values it sees, which no graph can hold."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum().item() > 0 else -x


class Several(nn.Module):
    """Returns several tensors."""

    def forward(self, x: Tensor) -> dict[str, object]:
        return {"z": 2 * x, "a": [x.mean((2, 3)), (x.argmax(1),)]}


def block() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU())


def image(samples: int = 1) -> Tensor:
    return torch.randn(samples, 4, 8, 8, generator=torch.Generator().manual_seed(samples))


def difference(path: Path, target: object, samples: int = 1) -> float:
    with torch.no_grad():
        expected = block().eval()(image(samples)).numpy()
    (actual,) = BACKEND.load(path, target)(image(samples).numpy())  # type: ignore[arg-type]
    assert actual.dtype == np.float32
    return float(abs(actual - expected).max())


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("fp16", 2e-2), ("bf16", 1e-1)])
def test_a_lowered_module_computes_what_it_did(tmp_path: Path, precision: str, tolerance: float) -> None:
    target = TARGET.model_copy(update={"precision": precision})
    module = block().train()
    BACKEND.lower(module, [image()], target, tmp_path / "x.lowered", dynamic_batch=True)
    for samples in (1, 3):
        assert difference(tmp_path / "x.lowered", target, samples) <= tolerance
    assert all(part.training for part in module.modules())
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_outputs_of_any_form_come_as_arrays_in_order(tmp_path: Path) -> None:
    BACKEND.lower(Several(), [image()], TARGET, tmp_path / "x.lowered", dynamic_batch=True)
    found = BACKEND.load(tmp_path / "x.lowered", TARGET)(image(3).numpy())
    assert [(array.shape, array.dtype.kind) for array in found] == [
        ((3, 4, 8, 8), "f"),
        ((3, 4), "f"),
        ((3, 8, 8), "i"),
    ]
    assert np.array_equal(found[2], image(3).argmax(1).numpy())


def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"^cannot record Fickle: [^\n]+$"):
        BACKEND.lower(Fickle(), [image()], TARGET, tmp_path / "x.lowered")
    assert not list(tmp_path.iterdir())


def test_threads_are_the_targets_while_it_runs_and_then_the_users(tmp_path: Path) -> None:
    BACKEND.lower(block(), [image()], TARGET, tmp_path / "x.lowered")
    runner = BACKEND.load(tmp_path / "x.lowered", TARGET)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        one, two = BACKEND.time([runner, runner], [[image().numpy()]] * 2, TARGET)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert len(one.samples) == len(two.samples) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no lowered network at .*x\.lowered; run the export first"),
        (b"no", r"cannot open .*x\.lowered: .* is no torch file: .*; export it again"),
    ],
)
def test_a_file_that_cannot_be_opened(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "x.lowered").write_bytes(content)
    with pytest.raises(LoadError, match=message):
        BACKEND.load(tmp_path / "x.lowered", TARGET)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    path, trace = tmp_path / "x.lowered", tmp_path / "ran"
    BACKEND.lower(nn.ReLU(), [image()], TARGET, path)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "trap": Trap(trace)}, path)
    with pytest.raises(LoadError, match=r"reading it would run code that it names \(.*Path.*\)"):
        BACKEND.load(path, TARGET)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # the trap works


def test_an_exported_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.lowered"
    with path.open("wb") as handle:
        torch.export.save(torch.export.export(nn.ReLU(), (image(),)), handle)
    with pytest.raises(LoadError, match=r"is a torch\.export archive, whose reader can fall back to pickle"):
        BACKEND.load(path, TARGET)


def test_a_checkpoint_that_names_who_makes_its_network_is_refused(tmp_path: Path) -> None:
    save(nn.Linear(2, 2), tmp_path / "x.pt", arch="os.path:join")
    with pytest.raises(LoadError, match=r"x\.pt does not describe its network as data; export it again"):
        BACKEND.load(tmp_path / "x.pt", TARGET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "eagre"}, "unknown mode 'eagre'; did you mean 'eager'"),
        ({"thread": 1}, "unknown option 'thread'; did you mean 'threads'"),
        ({"threads": "all"}, "threads is 'all'; expected a whole number of at least 1"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, object], message: str) -> None:
    BACKEND.lower(nn.ReLU(), [image()], TARGET, tmp_path / "x.lowered")
    target = TARGET.model_copy(update={"options": options})
    with pytest.raises(UsageError, match=message):
        BACKEND.time([BACKEND.load(tmp_path / "x.lowered", target)], [[image().numpy()]], target)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"precision": "int3"}, "the pytorch backend has no int3; it has fp32, fp16, bf16"),
        ({"device": "tpu"}, "the pytorch backend has no device 'tpu'; it has cpu, cuda"),
        ({"facts": {"device_name": "Abacus"}}, ", not Abacus"),
        (
            {"options": {"mode": "cuda-graph"}},
            "mode 'cuda-graph' needs device 'cuda', and target 'cpu-torch' asks for 'cpu'",
        ),
    ],
)
def test_what_this_machine_cannot_run_is_said(changes: dict[str, object], reason: str | None) -> None:
    found = BACKEND.unavailable(TARGET.model_copy(update=changes))
    assert found is None if reason is None else found is not None and reason in found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("mode", ["eager", "compile", "cuda-graph"])
def test_on_a_gpu_it_computes_the_same_and_more_work_takes_longer(tmp_path: Path, mode: str) -> None:
    target = TARGET.model_copy(update={"device": "cuda", "options": {"mode": mode}})
    BACKEND.lower(block(), [image()], target, tmp_path / "x.lowered")
    BACKEND.lower(nn.Sequential(*[block() for _ in range(16)]), [image()], target, tmp_path / "long.lowered")
    assert difference(tmp_path / "x.lowered", target) <= 1e-3
    runners = [BACKEND.load(tmp_path / name, target) for name in ("x.lowered", "long.lowered")]
    one, two = BACKEND.time(runners, [[image().numpy()]] * 2, target)
    assert 0 < one.ms < two.ms
