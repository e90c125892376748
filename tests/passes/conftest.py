"""A small teacher on real digits of 8x8 pixels, in a run whose candidates are listed."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest
import torch
from hant.backends.onnxruntime.backend import OnnxRuntimeBackend
from hant.op_library.pools import pool
from hant.op_library.tensor_spec import TensorSpec
from hant.passes.candidates.records import OperationRecord
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.target import Target
from hant.transformer.data.images import batches, shuffled, size
from hant.transformer.data.sources import load_data
from hant.transformer.ir.block import Block, BlockKind
from hant.transformer.ir.graph import Graph
from hant.transformer.rewrite.rewriter import replace_blocks
from hant.transformer.runs.store import RunStore
from torch import Tensor, fx, nn

MakeContext = Callable[..., Context]

POOL = "teacher,identity,cb_stack_3x3_ex0.5,cb_res_3x3,efn_3x3_e3_se1.00"


class Unit(nn.Module):
    """A residual block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.skip = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.norm(self.conv(x)))) + self.skip(x))


class Small(nn.Module):
    """Three blocks, the second with stride."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.one, self.two, self.three = Unit(8, 8, 1), Unit(8, 16, 2), Unit(16, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.three(self.two(self.one(torch.relu(self.stem(x)))))
        return cast(Tensor, self.head(x.mean((2, 3))))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Unit) or super().is_leaf_module(m, module_qualified_name)


@pytest.fixture(scope="session")
def small_graph() -> Graph:
    """The teacher, trained for a few seconds, as a graph."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data, network = load_data("digits", (1, 8, 8)), Small()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(6):
        for images, labels in batches(data.train, 64, shuffled(size(data.train), 0, epoch), drop_last=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    network.eval()
    module = fx.GraphModule(network, _Tracer().trace(network))
    shapes = {"one": ((8, 8, 8), (8, 8, 8)), "two": ((8, 8, 8), (16, 4, 4)), "three": ((16, 4, 4), (16, 4, 4))}
    blocks = tuple(
        Block(
            name=name,
            kind=BlockKind.RESIDUAL,
            class_name="Unit",
            input=TensorSpec(before),
            output=TensorSpec(after),
            macs=0,
            parameters=0,
            identity_allowed=before == after,
            module=module.get_submodule(name),
            target=name,
            signature=name,
        )
        for name, (before, after) in shapes.items()
    )
    return Graph(module, blocks, (TensorSpec((1, 8, 8)),), rewriter=replace_blocks)


@pytest.fixture
def make_context(small_graph: Graph) -> MakeContext:
    """Open a run whose candidates are listed as fitting or not."""

    def make(store: RunStore, names: str = POOL, **changes: object) -> Context:
        specs = pool(names)
        context = Context(
            model=small_graph.module,
            example_inputs=(torch.zeros(1, 1, 8, 8),),
            store=store,
            target=Target(name="test", backend="onnxruntime"),
            backend=OnnxRuntimeBackend(),
            pool=specs,
            data=load_data("digits", (1, 8, 8)),
            graph=small_graph,
            **changes,  # type: ignore[arg-type]
        )
        for block in small_graph.blocks:
            for spec in specs:
                reason = spec.unfit(block.input, block.output)
                record = OperationRecord(block=block.name, operation=spec.name, fits=not reason, reason=reason or "")
                store.put(f"{block.name}/{spec.name}", record)
        return context

    return make


_spec = importlib.util.spec_from_file_location("search_runs", Path(__file__).with_name("search_runs.py"))
assert _spec is not None
assert _spec.loader is not None
_runs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_runs)


@pytest.fixture(scope="session")
def search_runs() -> ModuleType:
    """How such runs are made (``search_runs.py``)."""
    return _runs


@pytest.fixture(scope="session")
def _scored_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A teacher of six blocks and its run, brought up to scores once."""
    model, root = _runs.teacher(), tmp_path_factory.mktemp("scored") / "run"
    with RunStore(root) as store:
        _runs.prepare(store, model)
    return model, root


@pytest.fixture
def scored(_scored_run: tuple[nn.Module, Path], tmp_path: Path) -> Iterator[Context]:
    """A run of its own, ready for selection; latencies are made from MACs (``search_runs``)."""
    model, root = _scored_run
    shutil.copytree(root, tmp_path / "run")
    with RunStore(tmp_path / "run") as store:
        yield _runs.open_context(store, model)


@pytest.fixture(scope="session")
def _profiled_run(_scored_run: tuple[nn.Module, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scored run with a lookup table and measured networks (``search_runs.CountingBackend``)."""
    model, root = _scored_run
    copy = tmp_path_factory.mktemp("profiled") / "run"
    shutil.copytree(root, copy)
    with RunStore(copy) as store:
        _runs.profile(_runs.open_context(store, model))
    return copy


@pytest.fixture
def profiled(_scored_run: tuple[nn.Module, Path], _profiled_run: Path, tmp_path: Path) -> Iterator[Context]:
    """A run of its own, ready for selection, with latencies taken by the stage ``profile``."""
    shutil.copytree(_profiled_run, tmp_path / "run")
    with RunStore(tmp_path / "run") as store:
        yield _runs.open_context(store, _scored_run[0])
