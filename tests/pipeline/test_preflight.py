"""What would fail late is told before the first stage that takes time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import hant
import pytest
import torch
from hant.backends.onnxruntime.backend import OnnxRuntimeBackend
from hant.backends.targets.load import load_target
from hant.op_library.pools import pool
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.data import Data
from hant.transformer.contracts.pass_ import Count, Pass, PassResult, Work
from hant.transformer.contracts.progress import Progress
from hant.transformer.contracts.task import Task
from hant.transformer.data.images import ImageTensors
from hant.transformer.errors import CaptureError, UsageError
from hant.transformer.pipeline.build import build_pass
from hant.transformer.pipeline.forecast import forecast
from hant.transformer.pipeline.pipeline import Pipeline
from hant.transformer.pipeline.preflight import EVENT, check_accuracy, check_files, check_task, preflight
from hant.transformer.runs.store import RunStore
from torch import Tensor, nn


class Classifier(nn.Module):
    """The mean of the image decides; ``hook`` is called with what is looked at."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1)
        self.head = nn.Linear(1, classes)

    def forward(self, x: Tensor) -> Any:
        return self.head(torch.relu(self.conv(x)).mean((1, 2, 3))[:, None])


@dataclass
class Said(Progress):
    """Keeps what is logged."""

    lines: tuple[str, ...] = ()

    def log(self, message: str) -> None:
        self.lines += (message,)


@dataclass(frozen=True)
class Stage(Pass):
    """A stage that writes nothing; refuses a size that does not divide the test images."""

    name: ClassVar[str] = "stage"
    size: Count = 1

    def check(self, context: Context) -> None:
        if 60 % self.size:
            raise UsageError(f"option stage.size is {self.size}, expected a divisor of 60")

    def work(self, context: Context) -> Work:
        return Work("a step", macs=1)

    def run(self, context: Context) -> PassResult:
        return PassResult()


def data(labels: Tensor | None = None, **more: Any) -> Data:
    given = torch.arange(60) % 3 if labels is None else labels
    images = torch.randn(len(given), 1, 6, 6, generator=torch.Generator().manual_seed(0))
    part = ImageTensors(images, given)
    return Data(part, part, **{"name": "mine", **more})


def captured(context: Context, model: nn.Module) -> Context:
    return replace(context, model=model, graph=hant.trace(model, context.example_inputs))


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[Context]:
    """A context after capture."""
    torch.manual_seed(0)
    with RunStore(tmp_path / "run") as store:
        bare = Context(
            model=nn.Identity(),
            example_inputs=(torch.zeros(2, 1, 6, 6),),
            store=store,
            target=load_target("cpu-ort"),
            backend=OnnxRuntimeBackend(),
            pool=pool("teacher,identity"),
            data=data(),
            progress=Said(),
        )
        yield captured(bare, Classifier().eval())


def log(context: Context) -> str:
    assert isinstance(context.progress, Said)
    return "\n".join(context.progress.lines)


class Counting(OnnxRuntimeBackend):
    """Counts what is lowered."""

    lowered: ClassVar[int] = 0

    def lower(self, *args: Any, **more: Any) -> None:
        type(self).lowered += 1
        super().lower(*args, **more)


def test_a_run_is_examined_once_and_again_with_other_data(ready: Context) -> None:
    context = replace(ready, backend=Counting(), data=data(notes=("data: 3 images are skipped",)))
    before = {name: tensor.clone() for name, tensor in context.model.state_dict().items()}
    Counting.lowered = 0
    pipeline = Pipeline([Stage()])
    pipeline.run(context)
    assert "3 images are skipped" in log(context)
    assert Counting.lowered == 1
    preflight(context, [Stage()])
    Pipeline([Stage(size=2)]).run(context)
    assert Counting.lowered == 1
    preflight(replace(context, data=data(name="other")), [])
    assert Counting.lowered == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in context.model.state_dict().items())
    assert all(parameter.grad is None for parameter in context.model.parameters())
    assert not any(context.store.scratch.glob("*"))


def test_what_is_up_to_date_is_not_examined(ready: Context) -> None:
    finished = replace(ready, graph=None)  # so that nothing is examined yet
    Pipeline([Stage()]).run(finished)
    Pipeline([Stage()]).run(ready)
    assert ready.store.events(EVENT) == []


def test_stages_refuse_options_before_the_first_of_them_begins(ready: Context) -> None:
    with pytest.raises(UsageError, match=r"option stage\.size is 7, expected a divisor of 60"):
        Pipeline([Stage(size=7)]).run(ready)
    assert ready.store.events("pass_started") == []
    with pytest.raises(UsageError, match=r"option stage.size: input should be greater than or equal to 1 \(got 0\)"):
        build_pass(Stage, {"size": 0}, {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            data(torch.arange(60) % 3 + 1),
            "labels 1 to 3, the network has 3 outputs, .* 0 to 2; labels begin at 0",
        ),
        (data(torch.arange(60) % 3 - 1), "labels -1 to 1, the network has 3 outputs"),
        (data(torch.arange(60)), "labels 0 to 59, the network has 3 outputs"),
    ],
)
def test_labels_without_an_output_are_refused(ready: Context, given: Data, message: str) -> None:
    with pytest.raises(UsageError, match=f"data mine has {message}"):
        check_task(ready, given)


def test_many_more_outputs_than_labels_are_told(ready: Context) -> None:
    context = captured(ready, Classifier(1000).eval())
    check_task(context, context.dataset)
    check_accuracy(context, context.dataset)
    assert "labels up to 2, the network 1000 classes" in log(context)
    assert "of 9 held-out images, which is near chance for 1000 classes" in log(context)


def test_a_teacher_that_knows_its_classes_is_not_warned_of(ready: Context) -> None:
    images = data().train.images.repeat(20, 1, 1, 1)  # type: ignore[attr-defined]
    with torch.no_grad():
        labels = ready.model(images).argmax(1)
    many = replace(data(), train=ImageTensors(images, labels))
    check_accuracy(ready, many)
    assert "chance" not in log(ready)


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [(torch.float64, r"return image\.float\(\)$"), (torch.int16, r"return image\.float\(\) / 255, normalised as in")],
)
def test_images_of_another_type_are_refused(ready: Context, dtype: torch.dtype, advice: str) -> None:
    part = ImageTensors(torch.zeros(8, 1, 6, 6, dtype=dtype), torch.arange(8) % 3)
    with pytest.raises(UsageError, match=f"the network is captured for float32; {advice}"):
        check_task(ready, Data(part, part))


class Regression(Task):
    """Fails where it is told to."""

    name = "regression"

    def __init__(self, fails: str = "") -> None:
        self.fails = fails

    def loss(self, outputs: Any, images: Tensor, targets: Any) -> Tensor:
        if self.fails == "loss":
            raise KeyError("boxes")
        mean: Tensor = outputs.float().mean()
        return mean * (float("nan") if self.fails == "nan" else 1.0)

    def train_loss(self, student: nn.Module, teacher: nn.Module, images: Tensor, targets: Any) -> Tensor:
        if self.fails == "train_loss":
            raise ValueError("no teacher here")
        return super().train_loss(student, teacher, images, targets)


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        ("loss", "loss and metric of task 'regression' fail: KeyError: 'boxes'; mend it"),
        ("nan", "the teacher's loss on data mine is nan, its metric .*, expected finite numbers"),
        ("train_loss", "a training step of a copy of the network fails: ValueError: no teacher here"),
    ],
)
def test_a_task_is_tried(ready: Context, fails: str, message: str) -> None:
    check_task(ready, data(task=Regression()))
    with pytest.raises(UsageError, match=message) as caught:
        check_task(ready, data(task=Regression(fails)))
    assert "\n" not in str(caught.value)


class Pixels(Classifier):
    def forward(self, x: Tensor) -> Any:
        return self.conv(x)


class Untrainable(Classifier):
    def forward(self, x: Tensor) -> Any:
        if self.training:
            raise NotImplementedError("deployed")
        return super().forward(x)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Pixels(), r"returns \(4, 4, 6, 6\) for 4 images, expected logits \(4, classes\); give --submodule"),
        (Untrainable(), r"a training step of a copy of the network fails: NotImplementedError: deployed"),
    ],
)
def test_networks_that_do_not_fit_the_task(ready: Context, model: nn.Module, message: str) -> None:
    context = captured(ready, model.eval())
    with pytest.raises(UsageError, match=message):
        check_task(context, context.dataset)


class Single(Classifier):
    def __deepcopy__(self, memo: dict[int, Any]) -> Single:
        raise RuntimeError("there is one of me")


def test_a_network_that_holds_a_lock_is_copied(ready: Context) -> None:
    model = Classifier().eval()
    model.lock = threading.Lock()  # type: ignore[assignment]
    context = captured(ready, model)
    check_task(context, context.dataset)
    check_files(context)
    assert "warning" not in log(context)
    (expected,) = forecast(context, [Stage()])
    assert expected.seconds > 0


def test_a_network_that_cannot_be_copied_is_told(ready: Context) -> None:
    with pytest.raises(CaptureError, match="Single cannot be copied: there is one of me"):
        check_task(captured(ready, Single().eval()), ready.dataset)


def test_a_network_that_cannot_be_exported_is_told(ready: Context) -> None:
    class Refusing(OnnxRuntimeBackend):
        def lower(self, *args: Any, **more: Any) -> None:
            raise CaptureError("no operator Fancy")

    with pytest.raises(CaptureError, match="a student of this network could not be exported: no operator Fancy"):
        check_files(replace(ready, backend=Refusing()))
    assert not ready.store.scratch.exists()
    assert "cannot be saved" not in log(ready)


def test_a_network_that_is_no_data_is_told_and_exported(ready: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any) -> None:
        raise CaptureError("no layer Fancy is known")

    monkeypatch.setattr("hant.transformer.pipeline.preflight.save", refuse)
    Counting.lowered = 0
    check_files(replace(ready, backend=Counting()))
    assert "warning: a student of this network cannot be saved for hant.load: no layer Fancy is known" in log(ready)
    assert Counting.lowered == 1
