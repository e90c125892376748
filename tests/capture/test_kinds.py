"""One test for each kind of code that makes capture hard: exact, or an error that says where and what to do."""

from __future__ import annotations

import re
import warnings
from typing import cast

import hant
import pytest
import torch
import torch.nn.functional as F
from hant.transformer.errors import CaptureError
from torch import Tensor, fx, nn

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


class Opened(nn.Module):
    """A module with a child, so that it is recorded through; childless modules of one tensor stay whole."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Identity()


class Around(nn.Module):
    """A network with one odd module inside."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Conv2d(4, 4, 3, padding=1), inner, nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.last(self.inner(self.first(x))))


def check(model: nn.Module, batches: tuple[int, ...] = (1, 2, 5)) -> hant.Graph:
    graph = hant.trace(model.eval(), X[:1])
    with torch.no_grad():
        for batch in batches:
            x = torch.randn(batch, *X.shape[1:], generator=torch.Generator().manual_seed(batch))
            assert torch.equal(graph.module(x.clone()), model(x.clone()))
    return graph


def test_in_place_write_on_a_view_keeps_its_module_whole() -> None:
    class Writes(Opened):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            y[:, :2].mul_(3)
            half = y.chunk(2, dim=1)
            half[0].zero_()
            return y + 1

    graph = check(Around(Writes()))
    graphs = [m.graph for m in graph.module.modules() if isinstance(m, fx.GraphModule)]
    assert any(n.op == "call_module" and n.target == "inner" for g in graphs for n in g.nodes)
    (note,) = [d for d in graph.diagnostics if "kept whole" in d.reason]
    assert note.where == "inner"
    assert "writes into a tensor that is read again through another view" in note.reason
    assert "test_kinds.py" in note.source


def test_in_place_write_on_a_view_outside_of_any_module() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x + 0
            y[:, 0].add_(1)
            return y

    told = r"writes in place into a tensor that it reads again .*\(add at .*test_kinds\.py:\d+\); write x = x \+ y"
    with pytest.raises(CaptureError, match=told):
        hant.trace(Root(), X)


def test_item_assignment_becomes_a_function() -> None:
    class Sets(Opened):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.zeros_like(x)
            y[:, 1:] = x[:, 1:]
            y[:, 0] = 1.5
            return y

    check(Around(Sets()))


def test_in_place_methods_without_a_pure_form() -> None:
    class Fills(Opened):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.empty_like(x)
            y.copy_(x)
            return y.clamp_(max=0.5).fill_(2.0) + y.zero_() + x

    check(Around(Fills()))


def test_control_flow_on_data() -> None:
    class Branches(Opened):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(CaptureError, match=r"module inner reads the values .*__bool__.* at .*test_kinds\.py:\d+"):
        hant.trace(Around(Branches()), X)


def test_numbers_of_parameters_are_kept_with_a_note() -> None:
    class Reads(Opened):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(3.0))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale.item()

    graph = check(Around(Reads()))
    assert any("the number read by item is kept as a constant" in d.reason for d in graph.diagnostics)


def test_control_flow_on_the_batch() -> None:
    class Odd(Opened):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu() if x.shape[0] % 2 else x.sigmoid()

    with pytest.raises(
        CaptureError, match=r"module inner does something else at batch 257 and at batch 2: .*test_kinds"
    ):
        hant.trace(Around(Odd()), X)


@pytest.mark.parametrize("power", [2, -1])
def test_shape_arithmetic_that_is_no_multiple_of_the_batch(power: int) -> None:
    class Scales(Opened):
        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, x * x.shape[0] ** power)

    with pytest.raises(CaptureError, match=r"an argument of mul at .*test_kinds\.py:\d+ went from"):
        hant.trace(Around(Scales()), X)


def test_shape_arithmetic_with_multiples_of_the_batch() -> None:
    class Folds(Opened):
        def forward(self, x: Tensor) -> Tensor:
            b, c, h, w = x.shape
            y = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b * (h // 2) * (w // 2), c, 2, 2)
            y = F.softmax(y, dim=0).view(b, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5)
            return y.reshape(b, c, h, w) + torch.arange(b, device=x.device).view(-1, 1, 1, 1)

    check(Around(Folds()))


def test_custom_autograd_functions_are_exact_forward() -> None:
    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return torch.round(x * 4) / 4

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:
            return grad

    class Straight(Opened):
        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, Round.apply(x))

    graph = check(Around(Straight()))
    notes = [d for d in graph.diagnostics if "custom autograd" in d.reason]
    assert notes[0].where == "inner"
    assert "test_kinds.py" in notes[0].source
    y = X.clone().requires_grad_()
    graph.network(y).sum().backward()
    assert y.grad is not None
    assert y.grad.abs().sum() > 0


def test_quantised_modules() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]
        graph = hant.trace(quantised, torch.randn(1, 8))
        x = torch.randn(3, 8)
        assert torch.equal(graph.module(x), quantised(x))


def test_scripted_submodules_stay_whole() -> None:
    class Plain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu() * 2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(Plain())
    check(Around(scripted))


def test_a_scripted_model_is_refused_with_what_to_give() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.Conv2d(1, 2, 1))
    with pytest.raises(CaptureError, match=r"is a TorchScript program.*give the module that it was made from"):
        hant.trace(scripted, torch.zeros(2, 1, 4, 4))


def test_recurrent_layers_stay_whole() -> None:
    class Rows(Opened):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(8, 4, batch_first=True, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.lstm(x.flatten(1, 2))[0].view(x.shape))

    check(Around(Rows()))


def test_caches_and_state_do_not_leak() -> None:
    class Caches(Opened):
        index: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.table: dict[tuple[int, int], Tensor] = {}
            self.register_buffer("index", torch.arange(8.0), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            size = (x.shape[2], x.shape[3])
            if size not in self.table:
                self.table[size] = self.index[:, None] - self.index[None, :]
            self.latest = x
            return x + self.table[size]

    model = Around(Caches())
    graph = hant.trace(model.eval(), X[:1])
    assert model.inner.table == {}
    assert not hasattr(model.inner, "latest")
    assert torch.equal(graph.module(X), model(X))


def test_dropout_follows_the_graphs_mode() -> None:
    class Drops(Opened):
        def forward(self, x: Tensor) -> Tensor:
            attended = F.scaled_dot_product_attention(x, x, x, dropout_p=0.3 if self.training else 0.0)
            return F.dropout(attended, 0.5, self.training) + F.dropout2d(x, 0.2, training=self.training)

    model = Around(Drops())
    graph = check(model)
    for network in (model, graph.module):
        network.train()
    results = []
    for network in (model, graph.module):
        torch.manual_seed(0)
        results.append(network(X))
    assert torch.equal(*results)
    assert not torch.equal(results[0], model.eval()(X))


def test_other_work_in_training_is_noted() -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.side = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.main(x) + self.side(x) if self.training else self.main(x))

    graph = check(Around(Auxiliary()))
    assert any("the graph holds evaluation only" in d.reason for d in graph.diagnostics)
    assert graph.network.train()(X).shape == X.shape


def test_outputs_that_are_no_tensors() -> None:
    class Result:
        def __init__(self, x: Tensor) -> None:
            self.x = x

    class Returns(nn.Module):
        def forward(self, x: Tensor) -> Result:
            return Result(x)

    with pytest.raises(CaptureError, match="the network returns a Result; return tensors"):
        hant.trace(Returns(), X)


def test_a_normalisation_of_the_right_size_is_captured() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LayerNorm([8, 8]))
    assert hant.trace(network, torch.zeros(1, 3, 8, 8)).module(torch.zeros(2, 3, 8, 8)).shape == (2, 4, 8, 8)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(5), nn.LayerNorm([4, 4])])
def test_a_normalisation_of_another_size_is_refused_with_its_own_words(layer: nn.Module) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), layer)
    with pytest.raises(RuntimeError) as wrong:
        network(torch.zeros(1, 3, 8, 8))
    with pytest.raises(Exception, match=re.escape(str(wrong.value).splitlines()[0][:40])):
        hant.trace(network, torch.zeros(1, 3, 8, 8))
