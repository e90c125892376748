"""One network that can be any network of the run's candidates (weight sharing), and any mixture of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ...transformer.contracts.context import Context
from ...transformer.ir.block import Block
from .assemble import CandidateWeights, independent

Statistics = Literal["running", "batch"]
"""What batch norms normalise by: the statistics that they were trained to, or those of the batch that is run."""

_STATISTICS = ("running_mean", "running_var")


@contextmanager
def statistics_of(network: nn.Module, kind: Statistics, *, constant: bool = False) -> Iterator[None]:
    """Let the batch norms of ``network``, in eval mode, normalise by ``kind`` meanwhile.

    With ``batch`` they do what they do in training, but for the update of their buffers: these are out of reach, so
    that neither they nor anybody who shares the layers sees anything of it. With ``constant`` gradients take the
    batch's statistics as given, so that the gradient of an image's output is about that image alone.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)] if kind == "batch" else []
    kept = [{name: layer._buffers.get(name) for name in _STATISTICS} for layer in layers]
    hooks = [layer.register_forward_pre_hook(_take_statistics) for layer in layers if constant]
    try:
        for layer in layers:
            layer._buffers.update(dict.fromkeys(_STATISTICS))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, buffers in zip(layers, kept, strict=True):
            layer._buffers.update(buffers)


def _take_statistics(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Put mean and variance of the inputs (N, C, ...) in the place of the layer's."""
    values = inputs[0].detach()
    axes = [axis for axis in range(values.dim()) if axis != 1]
    variance, mean = torch.var_mean(values, axes, correction=0)
    layer._buffers.update(running_mean=mean, running_var=variance)


class Switch(nn.Module):
    """Runs one of a block's candidates, or a mixture of them; only the active one is a part of the network."""

    takes_sides = True

    def __init__(self, active: nn.Module) -> None:
        super().__init__()
        self.active = active

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map what the block reads to its output by the active candidate."""
        result: Tensor = self.active(*inputs)
        return result


class Mixture(nn.Module):
    """Outputs the weighted sum of a block's candidates; keeps no activations of theirs for the way back."""

    def __init__(self, candidates: Sequence[nn.Module]) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(candidates)
        self.weights = torch.full((len(candidates),), 1 / len(candidates))
        """Shape (M,)."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map what the block reads to a tensor of its output contract."""
        if not torch.is_grad_enabled():
            return self._mix(self.weights, *inputs)
        mixed: Tensor = checkpoint(self._mix, self.weights, *inputs, use_reentrant=False, preserve_rng_state=False)
        return mixed

    def _mix(self, weights: Tensor, *inputs: Tensor) -> Tensor:
        total: Tensor = weights[0] * self.candidates[0](*inputs)
        for weight, candidate in zip(weights[1:], list(self.candidates)[1:], strict=True):
            total = total + weight * candidate(*inputs)
        return total


class Supernet:
    """The teacher with a switch in every replaceable block: choosing costs nothing, nothing is assembled anew.

    Exact: the same operations on the same values as in the network that ``build_student`` makes of the choice. It stays
    in eval mode, and no weight or buffer of the teacher or of a candidate is ever written.
    """

    def __init__(self, context: Context, weights: CandidateWeights | None = None) -> None:
        """Make it of a run's candidates, or of other ``weights``."""
        self._weights = weights or CandidateWeights(context.store)
        self._device = context.device
        # Networks are lowered on the CPU: elsewhere a copy is evaluated, so that the teacher stays where it is.
        self.graph = context.teacher if context.device.type == "cpu" else independent(context.teacher)
        """The teacher on the evaluation device."""
        self._blocks: dict[str, Block] = {block.name: block for block in self.graph.replaceable}
        self.switches = {name: Switch(block.module) for name, block in self._blocks.items()}
        """By block, in order of execution."""
        self.module = self.graph.replace(self.switches).module.to(context.device).eval()
        self.last = self.graph.replaceable[-1].target
        """Path of the last replaceable block inside ``module``."""
        self._mixtures: dict[tuple[str, tuple[str, ...]], Mixture] = {}

    def choose(self, choice: Mapping[str, str]) -> nn.Module:
        """Return the network of ``choice`` (block -> operation), in eval mode; valid until the next call."""
        for name, switch in self.switches.items():
            switch.active = self.candidate(name, choice.get(name, "teacher"))
        return self.module

    def mix(self, operations: Mapping[str, Sequence[str]], weights: Mapping[str, Tensor]) -> nn.Module:
        """Return the network whose blocks add up their operations, in eval mode; valid until the next call.

        Args:
            operations: block -> the operations that are mixed; blocks that are left out stay the teacher's.
            weights: block -> the weight of each, shape (M,); gradients flow to them, and through the candidates.
        """
        for name, switch in self.switches.items():
            if name not in operations:
                switch.active = self.candidate(name, "teacher")
                continue
            mixture = self._mixture(name, tuple(operations[name]))
            mixture.weights = weights[name]
            switch.active = mixture
        return self.module

    def _mixture(self, block: str, operations: tuple[str, ...]) -> Mixture:
        if (block, operations) not in self._mixtures:
            self._mixtures[block, operations] = Mixture([self.candidate(block, name) for name in operations])
        return self._mixtures[block, operations]

    def candidate(self, block: str, operation: str) -> nn.Module:
        """Return a candidate as the graph calls it, on the evaluation device, in eval mode; read once."""
        found = self._blocks[block]
        module = found.module if operation == "teacher" else found.called(self._weights.module(found, operation))
        return module.to(self._device).eval()

    def outputs(self, choice: Mapping[str, str], images: Tensor, statistics: Statistics = "running") -> Any:
        """Return what the network of ``choice`` makes of ``images`` (N, C, H, W)."""
        network = self.choose(choice)
        with torch.no_grad(), statistics_of(network, statistics):
            return network(images)
