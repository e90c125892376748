"""A run of a small teacher on real digits that is ready for selection: candidates trained and scored.

The lookup table is made from MACs, and so is what a measured network takes: what is selected does not depend on how
busy the machine is, and nothing has to be lowered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from hant import trace
from hant.backends.onnxruntime.backend import OnnxRuntimeBackend
from hant.op_library.cost import macs, parameters
from hant.op_library.pools import pool
from hant.op_library.tensor_spec import TensorSpec
from hant.passes.candidates.build import build_candidate
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.profile import ProfilePass
from hant.passes.latency.records import LatencyRecord
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.scoring.score import ScorePass
from hant.transformer.contracts.backend import Backend, Runner
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.target import Target
from hant.transformer.contracts.timing import Protocol, Timing
from hant.transformer.data.images import batches, shuffled, size
from hant.transformer.data.sources import load_data
from hant.transformer.runs.store import RunStore
from numpy.typing import NDArray
from torch import Tensor, nn

POOL = "teacher,identity,cb_stack_3x3_ex0.25,cb_res_3x3,cb_bottle_3x3_ex0.25"
SHAPE = (1, 12, 12)
QUICK = Protocol(warmup_seconds=0.01, rounds=5, max_rounds=5, min_sample_ms=0.2)


class Residual(nn.Module):
    """A residual block of constant or doubled width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.skip = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.skip(x))


class Net(nn.Module):
    """Six blocks in two stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 12, 3, padding=1)
        self.layer1 = nn.Sequential(Residual(12, 12), Residual(12, 12), Residual(12, 12))
        self.layer2 = nn.Sequential(Residual(12, 24), Residual(24, 24), Residual(24, 24))
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(torch.relu(self.stem(x))))
        return cast(Tensor, self.head(x.mean((2, 3))))


class Counted(Runner):
    """A network of which only is known what it takes."""

    def __init__(self, ms: float) -> None:
        self.ms = ms

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.generic], ...]:
        raise NotImplementedError

    def prepare(self, *inputs: NDArray[np.generic]) -> Callable[[], object]:
        raise NotImplementedError


class CountingBackend(OnnxRuntimeBackend):
    """A runtime whose clock counts: a call takes 0.01 ms and as long as its MACs."""

    def lower(
        self, module: nn.Module, inputs: Sequence[Tensor], target: Target, path: Path, dynamic_batch: bool = False
    ) -> None:
        count = macs(module, *(TensorSpec(tuple(tensor.shape[1:])) for tensor in inputs))
        path.write_text(f"{0.01 + count / 1e7}")

    lower_many = Backend.lower_many

    def load(self, path: Path, target: Target) -> Runner:
        return Counted(float(path.read_text()))

    def time(
        self, runners: Sequence[Runner], inputs: Sequence[Sequence[NDArray[np.generic]]], target: Target
    ) -> tuple[Timing, ...]:
        times = [runner.ms for runner in runners if isinstance(runner, Counted)]
        return tuple(Timing(ms=ms, low=ms, high=ms, trimmed_mean=ms, samples=(ms,) * 5) for ms in times)


def teacher() -> nn.Module:
    """The network, trained for a few seconds."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data, network = load_data("digits", SHAPE), Net()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for epoch in range(6):
        for images, labels in batches(data.train, 64, shuffled(size(data.train), 0, epoch), drop_last=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


def open_context(store: RunStore, model: nn.Module, names: str = POOL) -> Context:
    """Return the context of a run of ``model``."""
    return Context(
        model=model,
        example_inputs=(torch.zeros(2, *SHAPE),),
        store=store,
        target=Target(name="test", backend="onnxruntime", protocol=QUICK, options={"threads": 1}),
        backend=CountingBackend(),
        pool=pool(names),
        data=load_data("digits", SHAPE),
        graph=trace(model, torch.zeros(2, *SHAPE)),
    )


def list_operations(context: Context) -> None:
    """Record what fits where, with latencies made from MACs."""
    target = context.target.fingerprint
    for block in context.teacher.replaceable:
        for spec in context.pool:
            reason = spec.unfit(block.input, block.output) or ""
            key = f"{target}/{spec.name}/{block.input}->{block.output}"
            numbers: dict[str, int] = {}
            if not reason:
                module = build_candidate(block, spec, 0)
                numbers = {"parameters": parameters(module), "macs": macs(module, block.input)}
                ms = 0.001 + numbers["macs"] / 1e7
                timing = Timing(ms=ms, low=ms, high=ms, trimmed_mean=ms, estimated=True)
                latency = LatencyRecord(
                    operation=spec.name,
                    input=str(block.input),
                    output=str(block.output),
                    target=target,
                    timing=timing,
                    provenance={},
                )
                context.store.put(key, latency)
            record = OperationRecord(
                block=block.name, operation=spec.name, fits=not reason, reason=reason, latency_key=key, **numbers
            )
            context.store.put(f"{block.name}/{spec.name}", record)


def prepare(store: RunStore, model: nn.Module) -> None:
    """Bring a run up to scores."""
    context = open_context(store, model)
    list_operations(context)
    PretrainPass(epochs=2).run(context)
    ScorePass().run(context)


def profile(context: Context) -> None:
    """Fill the lookup table by the stage that does it, with the clock that counts."""
    context.store.delete(LatencyRecord)
    CandidatesPass().run(context)
    ProfilePass(keep_slower=True).run(context)
