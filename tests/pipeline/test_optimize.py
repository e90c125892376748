from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import hant
import pytest
import torch
from hant.backends.targets.load import load_target
from hant.transformer.contracts.data import Data
from hant.transformer.contracts.progress import Progress
from hant.transformer.contracts.timing import Protocol
from hant.transformer.data.images import ImageTensors
from hant.transformer.errors import CaptureError, UsageError
from hant.transformer.runs.store import RunStore
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


def network() -> nn.Module:
    torch.manual_seed(0)
    stem, head = nn.Conv2d(1, 8, 3, padding=1), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return nn.Sequential(stem, Block(), Block(), head)


def shades(count: int) -> ImageTensors:
    generator = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % 3
    images = torch.randn(count, 1, 10, 10, generator=generator) + (labels - 1).view(-1, 1, 1, 1)
    return ImageTensors(images, labels)


class Lines(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


def test_objects_go_in_and_a_student_comes_out_and_the_same_call_resumes(tmp_path: Path) -> None:
    protocol = Protocol(warmup_seconds=0.02, rounds=5, max_rounds=5)
    target = load_target("cpu-ort").model_copy(update={"protocol": protocol})
    data = Data(train=shades(150), test=shades(60), name="shades")
    progress = Lines()
    results = [
        hant.optimize(
            network(),
            data=data,
            target=target,
            budget=0.95,
            pool=hant.pool("teacher,identity"),
            run=tmp_path / "run",
            progress=progress,
            epochs=0,
            passes={"align": {"epochs": 0}},
        )
        for _ in range(2)
    ]
    first, second = results
    assert set(first.selection) == {"1", "2"}
    assert set(first.selection.values()) <= {"teacher", "identity"}
    assert "identity" in first.selection.values()
    assert 0 < first.latency.ratio <= 0.95
    assert first.metrics.teacher >= 0
    assert first.report.budget == "0.95"
    assert first.model(torch.zeros(2, 1, 10, 10)).shape == (2, 3)
    assert not first.model.training
    assert second.selection == first.selection
    for name, tensor in first.model.state_dict().items():
        assert second.model.state_dict()[name].equal(tensor)
    assert "search: up to date" in progress.lines
    with RunStore(tmp_path / "run") as store:
        assert [put["key"] for _, put in store.events("put") if put["kind"] == "selection"].count("000") == 1


class Named(nn.Module):
    """A network with a method of its own, in training, with buffers that training changes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(8, 3)
        self.norm.eval()  # frozen

    def forward_features(self, x: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.norm(self.stem(x)))
        return features

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.forward_features(x).mean((2, 3)))
        return logits


def quick() -> hant.Target:
    return load_target("cpu-ort").model_copy(update={"protocol": Protocol(warmup_seconds=0.02, rounds=5, max_rounds=5)})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Named, dict[str, Tensor], hant.Result]:
    """A user's network, its weights before, and what was made of it without naming a run."""
    model = Named()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with contextlib.chdir(tmp_path_factory.mktemp("unnamed")):
        Path("runs/Named-cpu-ort").mkdir(parents=True)
        result = hant.optimize(
            model,
            data=Data(train=shades(150), test=shades(60), name="shades"),
            target=quick(),
            budget="1000ms",
            pool="zero-shot",
            epochs=0,
            passes={"align": {"epochs": 0}},
            limits=["params=90%"],
        )
        return model, before, replace(result, run=result.run.absolute())


def test_the_users_network_stays_as_it_is(made: tuple[Named, dict[str, Tensor], hant.Result]) -> None:
    model, before, _ = made
    assert {name for name, module in model.named_modules() if not module.training} == {"norm"}
    assert all(model.state_dict()[name].equal(tensor) for name, tensor in before.items())
    assert set(vars(model)) == set(vars(Named()))


def test_the_student_is_of_the_users_class_and_shares_nothing(
    made: tuple[Named, dict[str, Tensor], hant.Result],
) -> None:
    model, _, result = made
    student = result.model
    assert type(student) is Named
    assert not student.training
    assert "identity" in result.selection.values()
    assert student.forward_features(torch.zeros(2, 1, 10, 10)).shape == (2, 8, 10, 10)
    assert not {p.data_ptr() for p in student.parameters()} & {p.data_ptr() for p in model.parameters()}
    images = shades(6).images
    loaded = hant.load(result.run / "student.safetensors")
    torch.testing.assert_close(student(images), loaded(images))


def test_a_run_without_a_name_is_new_and_named(made: tuple[Named, dict[str, Tensor], hant.Result]) -> None:
    run = made[2].run
    assert run.name == "Named-cpu-ort-2"
    assert run.parent.name == "runs"
    assert (run / "report.json").is_file()


def test_what_came_out_is_typed(made: tuple[Named, dict[str, Tensor], hant.Result]) -> None:
    result = made[2]
    assert isinstance(result.report, hant.Report)
    assert (result.latency, result.metrics) == (result.report.latency, result.report.accuracy)
    parts = result.latency.student_ms / result.latency.teacher_ms
    assert result.latency.ratio == pytest.approx(parts, rel=0.5), "of pairs of samples, not of their medians"


def settings(run: Path) -> list[str]:
    """Return the lines of a run's configuration but its own place, which may be said in several ways."""
    return [line for line in (run / "config.toml").read_text().splitlines() if not line.startswith("output")]


def test_passes_run_on_an_opened_run(made: tuple[Named, dict[str, Tensor], hant.Result]) -> None:
    from hant.passes import CapturePass, FiguresPass

    model, _, result = made
    data = Data(train=shades(150), test=shades(60), name="shades")
    before = settings(result.run)
    with hant.open_run(result.run, model, data=data, target=quick()) as context:
        assert context.seed == 0
        after = hant.Pipeline([CapturePass(), FiguresPass()]).run(context)
        assert after.teacher.block("blocks.0").class_name == "Block"
    assert settings(result.run) == before
    with (
        pytest.raises(UsageError, match=r"was made by a program that gave its model <Named> as an object"),
        hant.open_run(result.run),
    ):
        pass
    with pytest.raises(UsageError, match="made with another seed"), hant.open_run(result.run, model, data=data, seed=1):
        pass


def test_a_network_that_cannot_be_copied_is_told(tmp_path: Path) -> None:
    class Refusing(nn.Sequential):
        def __deepcopy__(self, memo: object) -> object:
            raise TypeError("one of a kind")

    data = Data(train=shades(15), test=shades(6), name="shades")
    with pytest.raises(CaptureError, match="Refusing cannot be copied: one of a kind; a student begins as a copy"):
        hant.optimize(Refusing(nn.Conv2d(1, 2, 3)), data=data, run=tmp_path / "run")


@pytest.mark.gpu
def test_a_network_on_a_gpu_gives_a_student_there(tmp_path: Path) -> None:
    model = Named().cuda()
    data = Data(train=shades(150), test=shades(60), name="shades")
    result = hant.optimize(
        model, data=data, target=quick(), budget="1000ms", pool="zero-shot", epochs=0, run=tmp_path / "run"
    )
    assert {p.device.type for p in model.parameters()} == {"cuda"}
    assert model.training
    assert result.model(torch.zeros(2, 1, 10, 10, device="cuda")).device.type == "cuda"


def test_what_is_wrong_is_told_before_anything_is_made(tmp_path: Path) -> None:
    data = Data(train=shades(15), test=shades(6), name="shades")
    with pytest.raises(UsageError, match=r"hant.optimize: unknown option 'epohcs'; did you mean 'epochs'"):
        hant.optimize(network(), data=data, run=tmp_path / "run", epohcs=1)
    with pytest.raises(UsageError, match="unknown target 'cpu-rot'"):
        hant.optimize(network(), data=data, run=tmp_path / "run", target="cpu-rot")
    with pytest.raises(UsageError, match="the model does not take inputs of 1x10x10"):
        hant.optimize(nn.Conv2d(3, 4, 3), data=data, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
