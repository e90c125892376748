"""One network in training that is all students at once: they share stem, head, and the weights of their operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.dropout import _DropoutNd

from ...op_library.families.slices import Slice
from ...op_library.pools import operation as find_operation
from ...op_library.slicing import Table, in_order, narrowed, sliceable_channels, sliced, table
from ...transformer.ir.block import Block
from ...transformer.ir.graph import Graph
from ...transformer.tools.copied import copied
from ..finetuning.start import initialise
from ..networks.assemble import CandidateWeights, blank, independent
from ..ranking.recalibrate import batch_norm_statistics

Choice = Mapping[str, str]
"""Block -> operation; blocks that are left out run the teacher's."""


class SharedBlock(nn.Module):
    """A block that runs one of its operations, whose weights all students share that use it.

    The block's own weights stand in order of the channels' strength; slices are parts of them, looked at anew in each
    pass, so that gradients of all widths meet in the same tensors. Other operations have weights of their own.
    """

    takes_sides = True

    def __init__(self, block: Block, operations: Iterable[str], weights: CandidateWeights) -> None:
        """Take over the block's module; ``weights`` holds the operations that are no slices."""
        super().__init__()
        specs = [find_operation(name) for name in operations if name != "teacher"]
        slices = [spec for spec in specs if isinstance(spec, Slice)]
        others = [spec for spec in specs if not isinstance(spec, Slice)]
        channels = sliceable_channels(block.module, block.input) if slices else ()
        self.own = in_order(block.module, channels) if slices else block.module
        parts = {spec.name: table(self.own, channels, spec.width, spec.kernel) for spec in slices}
        # In a dictionary, so that the slices' own tensors, which are never used, are none of this module's.
        self._slices: dict[str, tuple[nn.Module, Table]] = {
            name: (block.called(narrowed(self.own, part)), part) for name, part in parts.items()
        }
        self._names = [spec.name for spec in others]
        self.candidates = nn.ModuleList(
            block.called(copied(weights.module(block, spec.name))[0].requires_grad_(True)) for spec in others
        )
        self.active = "teacher"
        """The operation that runs."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map what the block reads to its output by the active operation."""
        result: Tensor
        if self.active not in self._slices:
            result = self.module(self.active)(*inputs)
            return result
        module, _ = self._slices[self.active]
        result = functional_call(module, self.tensors(self.active), inputs)
        return result

    def module(self, operation: str) -> nn.Module:
        """Return the module of an operation that is no slice."""
        return self.own if operation == "teacher" else self.candidates[self._names.index(operation)]

    def tensors(self, operation: str) -> dict[str, Tensor]:
        """Return the parameters and buffers of an operation by name; gradients flow from a slice's into the block's.

        A slice's buffers are copies: what it does to them in training is nobody's business.
        """
        if operation not in self._slices:
            return _tensors(self.module(operation))
        buffers = dict(self.own.named_buffers())
        found = sliced(self.own, self._slices[operation][1])
        return {name: tensor.clone() if name in buffers else tensor for name, tensor in found.items()}

    @torch.no_grad()
    def write(self, operation: str, module: nn.Module) -> None:
        """Copy the weights of an operation into a module that was made of it, as the graph calls it."""
        _copy(self.tensors(operation), module)

    def shares(self) -> list[list[nn.Parameter]]:
        """Return the parameters that learn together: those of the block, and of each operation with its own weights."""
        return [list(module.parameters()) for module in (self.own, *self.candidates)]

    def is_slice(self, operation: str) -> bool:
        """Return whether an operation is a part of the block's own weights."""
        return operation in self._slices

    def train(self, mode: bool = True) -> SharedBlock:
        """Put all operations in training or eval mode."""
        super().train(mode)
        for module, _ in self._slices.values():
            module.train(mode)
        return self

    def dropouts(self) -> list[nn.Module]:
        """Return the slices' dropout layers."""
        return [layer for module, _ in self._slices.values() for layer in dropouts(module)]


class SharedNetwork:
    """A copy of the teacher to train, with a shared block wherever students differ."""

    def __init__(
        self,
        teacher: Graph,
        operations: Mapping[str, Sequence[str]],
        weights: CandidateWeights,
        drawn: int | None = None,
    ) -> None:
        """Build it.

        Args:
            teacher: where weights begin; left as it is.
            operations: of each block that has any besides the teacher's.
            weights: the candidates that are no slices.
            drawn: seed to draw all weights of the teacher's anew by.
        """
        start = independent(teacher)
        if drawn is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(drawn)
                initialise(start.network)
        self._teacher = teacher
        self.blocks = {
            name: SharedBlock(start.block(name), names, weights)
            for name, names in operations.items()
            if any(operation != "teacher" for operation in names)
        }
        self.graph = start.replace(self.blocks)
        """Its network and module share all weights."""
        self.network = self.graph.network

    def choose(self, choice: Choice) -> nn.Module:
        """Return the network as the student of ``choice``; valid until the next call."""
        for name, block in self.blocks.items():
            block.active = choice.get(name, "teacher")
        return self.network

    def student(self, choice: Choice) -> Graph:
        """Return a student with copies of its weights, equal to the chosen network to the last bit."""
        graph = independent(blank(self._teacher, choice))
        self.fill(graph, choice)
        return graph

    @torch.no_grad()
    def fill(self, student: Graph, choice: Choice) -> None:
        """Copy the weights of ``choice`` into a student that was made of it."""
        for name, block in self.blocks.items():
            block.write(choice.get(name, "teacher"), student.block(name).module)
        own = _tensors(student.module)
        prefixes = tuple(f"{student.block(name).target}." for name in self.blocks)
        for name, tensor in _tensors(self.graph.module).items():
            if not name.startswith(prefixes):
                own[name].copy_(tensor)


def recalibrate(student: Graph, stream: Iterable[Tensor]) -> None:
    """Estimate the batch-norm statistics of a student anew on images (N, C, H, W)."""
    found = batch_norm_statistics(student.network, stream)
    buffers = dict(student.network.named_buffers(remove_duplicate=False))
    with torch.no_grad():
        for name, tensor in found.items():
            buffers[name].copy_(tensor)


def dropouts(network: nn.Module) -> list[nn.Module]:
    """Return the dropout layers of a network."""
    return [layer for layer in network.modules() if isinstance(layer, _DropoutNd)]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _copy(tensors: Mapping[str, Tensor], module: nn.Module) -> None:
    for name, tensor in _tensors(module).items():
        tensor.copy_(tensors[name])
