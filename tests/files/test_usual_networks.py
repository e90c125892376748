"""Networks as people write them: what they share, hook, wrap and nest is saved as it is, or refused in one line."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import hant
import pytest
import torch
import torchvision
from hant.passes.networks.assemble import independent
from hant.transformer.capture.verify import verify_same
from hant.transformer.errors import CaptureError, UsageError
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, weight_norm


class Residual(nn.Module):
    def __init__(self, act: nn.Module, width: int = 4) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(width, width, 3, padding=1), act

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.act(self.conv(x) + x))


class Net(nn.Module):
    def __init__(self, act: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(act or nn.ReLU()) for _ in range(3)))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.blocks(self.stem(x)).mean((2, 3))))


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layer(x.flatten(2).transpose(1, 2))[0])


class Rois(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offset, self.deformed = nn.Conv2d(3, 18, 3, padding=1), torchvision.ops.DeformConv2d(3, 3, 3, padding=1)
        self.register_buffer("boxes", torch.tensor([[0.0, 0.0, 0.0, 6.0, 6.0]]))

    def forward(self, x: Tensor) -> Tensor:
        y = self.deformed(x, self.offset(x))
        return cast(Tensor, y + torchvision.ops.roi_align(y, self.boxes, (2, 2)).mean())


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    model[0].register_forward_hook(lambda module, given, made: made * 2)
    model.register_forward_pre_hook(lambda module, given: (given[0] / 3,))
    return model


def patched() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    layer = cast(nn.Conv2d, model[0])
    layer.forward = lambda x: nn.Conv2d.forward(layer, x) * 3  # type: ignore[method-assign, assignment]
    return model


def pruned() -> nn.Module:
    model = Net()
    prune.l1_unstructured(model.stem, "weight", 0.5)  # type: ignore[no-untyped-call]
    return model


def changed(change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    model = Net()
    model.stem = cast(nn.Conv2d, change(model.stem))
    return model


def named() -> nn.Module:
    kind = type("Größe", (Net,), {"forward": lambda self, x: self.höhe(Net.forward(self, x))})
    model = cast(nn.Module, kind())
    model.höhe = nn.Sequential()
    model.höhe.add_module("层", nn.Linear(3, 3))
    return model


def activated(act: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), act, nn.Sequential(nn.Conv2d(4, 4, 1), act), nn.Conv2d(4, 4, 1), act)


USUAL: dict[str, Callable[[], nn.Module]] = {
    "one activation in all blocks": lambda: Net(nn.ReLU(inplace=True)),
    "one trained activation in all blocks": lambda: Net(nn.PReLU()),
    "one activation at several depths": lambda: activated(nn.SiLU()),
    "lstm": lambda: Recurrent(nn.LSTM(3, 2, num_layers=2, batch_first=True, bidirectional=True)),
    "gru": lambda: Recurrent(nn.GRU(3, 2, batch_first=True)),
    "rnn": lambda: Recurrent(nn.RNN(3, 2, batch_first=True, nonlinearity="relu")),
    "weight norm": lambda: changed(parametrizations.weight_norm),
    "weight norm of hooks": lambda: changed(weight_norm),
    "spectral norm": lambda: changed(parametrizations.spectral_norm),
    "pruned": pruned,
    "hooks": hooked,
    "a forward of its own": patched,
    "names beyond ASCII": named,
    "torchvision's operators": Rois,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", USUAL.values(), ids=USUAL.keys())
def test_what_is_saved_is_the_same_network(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, images = make().eval(), torch.randn(5, 3, 8, 8)
    hant.save(model, tmp_path / "net.pt", images[:1])
    loaded = hant.load(tmp_path / "net.pt")
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))


@pytest.mark.parametrize("make", [hooked, patched])
def test_what_runs_beside_a_layer_is_not_lost_without_example_inputs(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"needs example_inputs, .* with hooks or a forward of its own"):
        hant.save(make(), tmp_path / "net.pt")


def test_one_layer_in_several_places_is_saved_in_each(tmp_path: Path) -> None:
    model = activated(nn.PReLU()).eval()
    hant.save(model, tmp_path / "net.safetensors")
    loaded = hant.load(tmp_path / "net.safetensors")
    assert torch.equal(loaded(torch.ones(1, 3, 2, 2)), model(torch.ones(1, 3, 2, 2)))
    assert loaded.get_parameter("1.weight") is loaded.get_parameter("4.weight")


def test_wrappers_are_taken_off(tmp_path: Path) -> None:
    model, images = Net().eval(), torch.randn(3, 3, 8, 8)
    wrapped = nn.DataParallel(torch.optim.swa_utils.AveragedModel(model)).eval()
    assert hant.trace(wrapped, images).blocks[0].name == hant.trace(model, images).blocks[0].name
    hant.save(wrapped, tmp_path / "net.pt", images)
    assert torch.equal(hant.load(tmp_path / "net.pt")(images), model(images))


class Nested(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.inner: nn.Module = Nested(depth - 1) if depth else nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.inner(x) + 1)


def test_deep_nests_are_captured_or_refused_at_once(tmp_path: Path) -> None:
    images = torch.randn(1, 3, 4, 4)
    for attempt in (hant.trace, lambda model, x: hant.save(model, tmp_path / "x.pt", x)):
        with pytest.raises(CaptureError, match="are nested 151 deep; at most 100"):
            attempt(Nested(150), images)


@pytest.mark.parametrize("rows", [3, 64])
def test_what_changes_from_some_batch_on_is_refused(rows: int) -> None:
    class First(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[: min(len(x), rows)])

    with pytest.raises(CaptureError, match=rf"an argument of getitem at .* went from 2 to {rows} when the batch"):
        hant.trace(First(), torch.randn(2, 3, 8, 8))


def test_comparison_covers_a_batch_of_its_own() -> None:
    class First(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:4]

    with pytest.raises(CaptureError, match="differs from the model by up to inf"):
        verify_same(nn.Identity(), First(), (torch.randn(2, 3),), "leave it out")


class Locked(Net):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return super().forward(x)


class Extra(Net):
    def get_extra_state(self) -> Any:
        return {"scale": 0.5}

    def set_extra_state(self, state: Any) -> None:
        raise AssertionError("runs keep tensors only")


def run_with_gradients() -> nn.Module:
    model = Net()
    weight_norm(model.stem)
    model(torch.randn(1, 3, 8, 8))  # leaves a computed tensor on the layer
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make",
    [Locked, Extra, run_with_gradients, lambda: Net().requires_grad_(False)],
    ids=["lock", "extra", "run", "frozen"],
)
def test_a_student_begins_as_a_whole_copy_of_its_teacher(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    teacher, images = make().eval(), torch.randn(2, 3, 8, 8)
    frozen = [p.requires_grad for p in teacher.parameters()]
    student = independent(hant.trace(teacher, images).replace({"blocks.1": nn.Identity()})).network
    state = student.state_dict()
    assert all(isinstance(tensor, Tensor) for tensor in state.values())
    student.load_state_dict({name: tensor + 1 for name, tensor in state.items()})
    assert not {p.data_ptr() for p in student.parameters()} & {p.data_ptr() for p in teacher.parameters()}
    student.train()(images).sum().backward()
    assert all(p.grad is not None for p in student.parameters())
    assert [p.requires_grad for p in teacher.parameters()] == frozen


def test_auxiliary_outputs_of_training_are_not_the_students() -> None:
    class Auxiliary(Net):
        def forward(self, x: Tensor) -> Any:
            made = super().forward(x)
            return (made, made * 2) if self.training else made

    model = Auxiliary()
    graph = hant.trace(model, torch.randn(2, 3, 8, 8))
    assert any("returns other outputs beside" in diagnostic.reason for diagnostic in graph.diagnostics)
    student = graph.replace({"blocks.1": nn.Identity()}).network.train()
    assert student(torch.randn(4, 3, 8, 8)).shape == (4, 3)
