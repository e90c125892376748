"""The network that the search trains: the teacher with a stochastic layer in every replaceable block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ....op_library.elastic import Elastic, leading, strongest_first
from ....op_library.pools import operation as find_operation
from ....transformer.contracts.context import Context
from ....transformer.errors import UnfitError
from ....transformer.ir.block import Block
from ....transformer.tools.copied import copied
from ...candidates.build import build_candidate
from ...networks.assemble import CandidateWeights, independent
from ...selecting.table import SearchTable
from .ladder import Ladder, ladders
from .layer import Place, Share, StochasticLayer
from .schedule import SKIP
from .walk import Walk


class TrainedSupernet:
    """Copies of the candidates that are trained together; what is around the blocks stays the teacher's.

    Nothing is shared with the run's candidates or the teacher, so none of them is ever written.
    """

    def __init__(self, context: Context, table: SearchTable, most: int, walk: Walk, scratch: bool = False) -> None:
        """Take of each block the ``most`` most promising ladders of ``table`` beside its own operation.

        From ``scratch`` the own operation is left out, as nobody has trained it, and what is around the blocks trains.
        """
        graph = independent(context.teacher)
        for tensor in graph.network.parameters():
            tensor.requires_grad_(scratch and tensor.is_floating_point())
        weights, blocks = CandidateWeights(context.store), {block.name: block for block in graph.replaceable}
        own = {block.name: block for block in context.teacher.replaceable}
        self.places: list[Place] = []
        self.layers: dict[str, StochasticLayer] = {}
        for index, name in enumerate(table.blocks):
            chosen = _chosen(table, index, most)[scratch:]
            built = [found for ladder in chosen for found in _built(own[name], blocks[name], ladder, weights)]
            rows = dict(zip(table.operations[index], table.cost["ms"][index].tolist(), strict=True))
            self.places.append(Place(name, [ladder for ladder, _ in built], rows.get("identity"), walk))
            # the teacher's own block, not the copy: it is what outputs are compared with
            self.layers[name] = StochasticLayer(
                [ladder for ladder, _ in built], [module for _, module in built], own[name].module
            )
        self.module = graph.replace(self.layers).module.to(context.device)
        """Maps images to the network's outputs by what the layers' plans say."""
        self._around = _outside(self.module) if scratch else {}
        self.train()

    def train(self) -> None:
        """Let batch norms normalise by the batch; dropout would be noise on what is compared."""
        self.module.eval()
        for layer in self.module.modules():
            if isinstance(layer, _BatchNorm):
                layer.train()
        for stochastic in self.layers.values():
            for operation in stochastic.operations:
                for skeleton in operation.skeletons if isinstance(operation, Elastic) else ():
                    for layer in skeleton.modules():
                        layer.training = isinstance(layer, _BatchNorm)

    def plan(self, plans: Sequence[Sequence[Share]]) -> None:
        """Let the layers, in order, run these shares."""
        for place, shares in zip(self.places, plans, strict=True):
            self.layers[place.name].plan = tuple(shares)

    def watch(self, watching: bool) -> None:
        """Keep the layers' errors from now on, or no longer."""
        for layer in self.layers.values():
            layer.watching, layer.error = watching, None

    def error(self) -> Tensor:
        """Return the mean of the layers' errors since ``watch``."""
        errors = [layer.error for layer in self.layers.values() if layer.error is not None]
        return torch.stack(errors).mean()

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained by name: of the operations that are left, but for the teacher's own."""
        own = {f"{key}|{name}": own for key, module in self._left() for name, own in module.named_parameters()}
        return self._around | own

    def buffers(self) -> dict[str, Tensor]:
        """Return the buffers of the operations that are left by name."""
        return {f"{key}|{name}": own for key, module in self._left() for name, own in module.named_buffers()}

    def _left(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the operations that are left and trained, each as ``layer|choice``."""
        for place in self.places:
            layer = self.layers[place.name]
            for choice in place.alive:
                if choice != SKIP and isinstance(layer.operations[choice], Elastic):
                    yield f"{place.name}|{choice}", layer.operations[choice]

    def drop(self, place: Place, choices: Sequence[int]) -> None:
        """Free what left a layer; the teacher's own operation stays: it is what all others are compared with."""
        for choice in choices:
            if choice != SKIP and place.ladders[choice].names != ("teacher",):
                self.layers[place.name].operations[choice] = nn.Identity()

    @property
    def runs(self) -> int:
        """Operations that were run, in all layers."""
        return sum(layer.runs for layer in self.layers.values())

    def cut(self, place: Place, choice: int, name: str) -> dict[str, Tensor] | None:
        """Return copies of the trained weights of an operation; None for those that are not trained."""
        operation = self.layers[place.name].operations[choice] if choice != SKIP else None
        return operation.cut(name) if isinstance(operation, Elastic) else None


def _outside(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are in no stochastic layer, by name."""
    inside = {
        id(parameter)
        for layer in network.modules()
        if isinstance(layer, StochasticLayer)
        for parameter in layer.parameters()
    }
    return {f"|{name}": own for name, own in network.named_parameters() if id(own) not in inside}


def _chosen(table: SearchTable, block: int, most: int) -> list[Ladder]:
    """Return a block's own operation and its most promising ladders, by pretraining's error and share of the time."""
    names, loss, ms = table.operations[block], table.loss[block].tolist(), table.cost["ms"][block].tolist()
    rows: Mapping[str, float] = dict(zip(names, ms, strict=True))
    merit = {name: a + b / max(rows["teacher"], 1e-9) for name, a, b in zip(names, loss, ms, strict=True)}
    found = ladders(rows)
    others = [ladder for ladder in found if ladder.names != ("teacher",)]
    others.sort(key=lambda ladder: min(merit[name] for name in ladder.names))
    return [Ladder(("teacher",), (rows["teacher"],)), *others[:most]]


def _built(block: Block, copy: Block, ladder: Ladder, weights: CandidateWeights) -> list[tuple[Ladder, nn.Module]]:
    """Return the modules of a ladder; widths that are no part of the widest are ladders of their own.

    ``block`` is the teacher's, ``copy`` that of the supernet.
    """
    if ladder.names == ("teacher",):
        return [(ladder, copy.module)]
    elastic, rows = elastic_of(block, ladder.names, weights), dict(zip(ladder.names, ladder.ms, strict=True))
    parts = (*elastic.parts, elastic.name)
    found: list[tuple[Ladder, nn.Module]] = [(Ladder(parts, tuple(rows[name] for name in parts)), elastic)]
    for other in ladder.names:
        if other not in parts:
            trained = copied(weights.module(block, other))[0]
            found.append((Ladder((other,), (rows[other],)), _trainable(Elastic(trained, {}, other))))
    return found


def elastic_of(block: Block, names: Sequence[str], weights: CandidateWeights) -> Elastic:
    """Return the operations called ``names``, from narrow to wide, on a copy of the widest one's weights.

    Its channels are in order, the strongest first; what is no leading part of it is left out.
    """
    *narrower, name = names
    widest, parts = _ordered(block, weights.module(block, name)), dict[str, nn.Module]()
    for other in narrower:
        module = build_candidate(block, find_operation(other), seed=0)
        with suppress(UnfitError):
            leading(widest, module)
            parts[other] = module
    return _trainable(Elastic(widest, parts, name))


def _ordered(block: Block, module: nn.Module) -> nn.Module:
    try:
        return strongest_first(module, block.input)
    except Exception:  # an operation may be a user's, and raise anything: its channels stay in their order
        return copied(module)[0]


def _trainable(module: Elastic) -> Elastic:
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return module
