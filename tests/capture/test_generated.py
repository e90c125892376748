"""Networks that nobody designed: whatever they do, the graph does the same to the bit."""

from __future__ import annotations

from typing import Any, cast

import hant
import pytest
import torch
import torch.nn.functional as F
from hant.transformer.errors import CaptureError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

WIDTH, SIZE, SHARED = 4, 4, 3
Step = tuple[str, int, int]
STEPS = [
    "conv",
    "bn",
    "relu",
    "relu_inplace",
    "gelu",
    "add",
    "iadd",
    "imul",
    "mul",
    "cat",
    "dropout",
    "f_dropout",
    "pool",
    "fold",
    "linear",
    "attend",
    "chunk",
    "setitem",
    "view_write",
    "identity",
    "double",
    "expand",
    "zeros_like",
    "mean",
    "clamp_",
    "getitem",
    "layer_norm",
    "alias",
    "arange",
    "where",
]


class Work(nn.Module):
    """Runs a program: each step makes a value from two earlier ones, or writes into one."""

    def __init__(self, program: list[Step]) -> None:
        super().__init__()
        self.program = program
        self.convs = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(SHARED))
        self.norms = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(SHARED))
        self.merge, self.linear = nn.Conv2d(2 * WIDTH, WIDTH, 1), nn.Linear(WIDTH, WIDTH)
        self.inplace, self.dropout, self.same = nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Identity()
        self.scale = nn.Parameter(torch.rand(WIDTH, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for name, a, b in self.program:
            change = getattr(self, f"do_{name}", None)
            x, y = values[a % len(values)], values[b % len(values)]
            values.append(self.pure(name, x, y, a) if change is None else change(values, a, b))
        return values[-1]

    def pure(self, name: str, x: Tensor, y: Tensor, n: int) -> Tensor:
        b, c, h, w = x.shape
        made: dict[str, Any] = {
            "conv": lambda: self.convs[n % SHARED](x),
            "bn": lambda: self.norms[n % SHARED](x),
            "relu": lambda: F.relu(x),
            "relu_inplace": lambda: self.inplace(x),
            "gelu": lambda: F.gelu(x) * self.scale,
            "add": lambda: x + y,
            "mul": lambda: torch.sigmoid(x) * y,
            "cat": lambda: self.merge(torch.cat([x, y], 1)),
            "dropout": lambda: self.dropout(x),
            "f_dropout": lambda: F.dropout(x, 0.2, self.training),
            "pool": lambda: F.interpolate(F.avg_pool2d(x, 2), scale_factor=2),
            "fold": lambda: x.reshape(b * c, h, w).softmax(0).view(b, c, h, w),
            "linear": lambda: self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
            "attend": lambda: F.scaled_dot_product_attention(x, y, x),
            "chunk": lambda: torch.cat(x.chunk(2, 1)[::-1], 1),
            "identity": lambda: self.same(x),
            "double": lambda: x.double().add(1).to(y.dtype),
            "expand": lambda: y.mean((2, 3), keepdim=True).expand_as(x) + x,
            "zeros_like": lambda: torch.zeros_like(x) + y,
            "mean": lambda: x - x.mean(dim=1, keepdim=True),
            "getitem": lambda: F.pad(x[:, : c // 2, ..., 1:], (1, 0, 0, 0, 0, c - c // 2)),
            "layer_norm": lambda: F.layer_norm(x, x.shape[1:]),
            "alias": lambda: x.contiguous().detach(),
            "arange": lambda: x + torch.arange(b, device=x.device).view(b, 1, 1, 1),
            "where": lambda: torch.where(x > y, x, y),
        }
        return cast(Tensor, made[name]())

    def do_iadd(self, values: list[Tensor], a: int, b: int) -> Tensor:
        x = values[a % len(values)]
        x += values[b % len(values)] * 0.5
        return x

    def do_imul(self, values: list[Tensor], a: int, b: int) -> Tensor:
        x = values[a % len(values)]
        x *= self.scale
        return x

    def do_clamp_(self, values: list[Tensor], a: int, b: int) -> Tensor:
        return values[a % len(values)].clamp_(max=2)

    def do_setitem(self, values: list[Tensor], a: int, b: int) -> Tensor:
        x = values[a % len(values)].clone()
        x[:, b % WIDTH] = values[b % len(values)][:, 0]
        return x

    def do_view_write(self, values: list[Tensor], a: int, b: int) -> Tensor:
        x = values[a % len(values)]
        x[:, b % WIDTH].mul_(0.5)
        return x


class Generated(nn.Module):
    def __init__(self, programs: list[list[Step]]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 1)
        self.blocks = nn.ModuleList(Work(program) for program in programs)
        self.skip = len(programs) % 2

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x) + x if self.skip else block(x)
        return x


steps = st.tuples(st.sampled_from(STEPS), st.integers(0, 7), st.integers(0, 7))
networks = st.lists(st.lists(steps, min_size=1, max_size=6), min_size=1, max_size=3)


def check(programs: list[list[Step]]) -> None:
    torch.manual_seed(0)
    model = Generated(programs)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    try:
        graph = hant.trace(model, torch.zeros(1, 3, SIZE, SIZE))
    except CaptureError as error:
        assert "writes in place" in str(error)  # noqa: PT017
        return
    state = {k: v.clone() for k, v in model.state_dict().items()}
    evaluation_only = any("evaluation only" in d.reason for d in graph.diagnostics)
    for training in (False,) if evaluation_only else (False, True):
        for batch in (5,) if training else (2, 5):
            x = torch.randn(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(batch))
            results = []
            for network in (model, graph.module):
                model.load_state_dict(state)
                network.train(training)
                torch.manual_seed(1)
                with torch.no_grad():
                    results.append([network(x.clone()), *(t.clone() for t in model.state_dict().values())])
            assert all(torch.equal(p.nan_to_num(), q.nan_to_num()) for p, q in zip(*results, strict=True))


def test_a_written_argument_and_another_result_are_refused_for_the_write() -> None:
    check([[("view_write", 0, 0), ("relu_inplace", 0, 0), ("conv", 1, 0)]])


def test_dropout_whose_result_nobody_reads_draws_its_random_numbers() -> None:
    check([[("f_dropout", 0, 0), ("dropout", 0, 0)]])


def test_zeros_like_a_value_keep_the_order_of_its_memory() -> None:
    """Random numbers are drawn in the order of memory, so that a dropout behind shows the difference."""
    check([[("linear", 0, 0), ("zeros_like", 1, 0), ("f_dropout", 2, 0)]])


def test_a_module_kept_whole_that_returns_its_input_in_one_mode_only() -> None:
    check([[("dropout", 0, 0), ("relu_inplace", 0, 0), ("dropout", 1, 0)]])


@given(networks)
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_generated_networks_are_captured_exactly(programs: list[list[Step]]) -> None:
    check(programs)


@pytest.mark.slow
@given(networks)
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
def test_ten_thousand_generated_networks(programs: list[list[Step]]) -> None:
    check(programs)
