"""``hant.measure``: the latency of a network on a target."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from ...backends.targets.load import load_target
from ..contracts.backend import Backend, batch_of
from ..contracts.target import Target
from ..contracts.timing import Timing
from ..errors import UsageError
from ..ir.graph import Graph
from ..plugins import load_plugin
from ..rewrite.deploy import deploy


def measure(
    network: Graph | nn.Module,
    target: str | Path | Target = "cpu-ort",
    example_inputs: Tensor | Sequence[Tensor] | None = None,
) -> Timing:
    """Return the latency of one call of ``network`` on ``target`` (ms), with its spread.

    ``example_inputs`` are tensors (N, ...) of the network's inputs; their batch is cut or repeated to the target's.
    A graph knows its inputs' shapes, so it needs none.

    Raises:
        UsageError: no inputs for a module, an unknown target, or one that cannot be run here.
        CaptureError: the network cannot be lowered.
    """
    chosen = target if isinstance(target, Target) else load_target(target)
    backend: Backend = load_plugin("hant.backends", chosen.backend)()
    reason = backend.unavailable(chosen)
    if reason is not None:
        raise UsageError(f"target {chosen.name} cannot be run here: {reason}")
    module = deploy(network.network if isinstance(network, Graph) else network)
    inputs = _inputs(network, example_inputs, chosen.batch_size)
    with tempfile.TemporaryDirectory(prefix="hant-") as folder:
        path = Path(folder) / "network.lowered"
        backend.lower(module, inputs, chosen, path)
        runner = backend.load(path, chosen)
        arrays = [tensor.detach().cpu().numpy() for tensor in inputs]
        return backend.time([runner], [arrays], chosen)[0]


def _inputs(
    network: Graph | nn.Module, example_inputs: Tensor | Sequence[Tensor] | None, size: int
) -> tuple[Tensor, ...]:
    if example_inputs is None:
        if not isinstance(network, Graph):
            raise UsageError("measure needs example_inputs to run a module with; give a tensor (N, C, H, W)")
        return tuple(spec.random(size) for spec in network.inputs)
    given = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    return tuple(batch_of(tensor, size) for tensor in given)
