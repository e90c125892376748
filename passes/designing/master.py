"""The MasterNet: the network around which designs are searched, trained where it has no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...op_library.structure import Structure, SuperBlockNetwork
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Amount, Factor, Pass, PassResult, Work
from ...transformer.data.images import size
from ...transformer.data.splits import split
from ...transformer.errors import LostError, UsageError
from ..finetuning.examine import parts_of
from ..finetuning.finetune import FinetunePass
from ..finetuning.training_pass import work_of
from ..networks.evaluate import evaluate
from .inherit import fresh, varied
from .records import MasterRecord
from .timing import shape_of

MASTER = "checkpoints/master.safetensors"


@dataclass(frozen=True)
class MasterPass(Pass):
    """Write the MasterNet's weights: those of the teacher where that is the MasterNet, else trained by its answers."""

    name: ClassVar[str] = "master"
    requires: ClassVar[tuple[str, ...]] = ("graph",)
    ensures: ClassVar[tuple[str, ...]] = ("master",)

    master: str = ""
    """Name or text of the MasterNet's structure."""
    anew: bool = False
    """Train it where the teacher is the MasterNet, too: one without weights of its own."""
    epochs: Amount | None = None
    """Of its training; by default as many as fine-tuning has without alignment."""
    distillation: Factor = 1.0
    """Factor of the divergence from the teacher's answers, beside the cross-entropy."""

    def check(self, context: Context) -> None:
        """Refuse a structure that cannot be read."""
        self.parsed()

    def parsed(self) -> Structure:
        """Return the MasterNet's structure.

        Raises:
            UsageError: none is given, or it cannot be read.
        """
        if not self.master:
            raise UsageError("no MasterNet is given to design from; give --master genet:cifar, or a structure's text")
        return Structure.parse(self.master.removeprefix("genet:"))

    def work(self, context: Context) -> Work:
        """Count the steps, where there is anything to train."""
        if not self.anew and _fits(self.parsed(), context.model.state_dict()):
            return Work()
        return work_of(self._way().recipe(context, "", size(parts_of(context.dataset, context.seed).fit)), context)

    def lost(self, context: Context) -> str:
        """Return whether the weights are gone."""
        return "" if context.store.path(MASTER).is_file() else f"{MASTER} is missing"

    def run(self, context: Context) -> PassResult:
        """Take or train the weights, and evaluate them."""
        structure, weights, recipe = self.parsed(), dict(context.model.state_dict()), ""
        if self.anew or not _fits(structure, weights):
            network, recipe = self.trained(context, structure)
            weights = dict(network.state_dict())
        network = varied(structure, weights, context.seed)
        held_out = split(context.dataset, context.seed).held_out
        found = evaluate(network, held_out, 256, context.device, context.dataset.task)
        digest = context.store.save_tensors(MASTER, weights)
        record = MasterRecord(
            structure=str(structure),
            file=MASTER,
            digest=digest,
            accuracy=found.accuracy,
            loss=found.loss,
            recipe=recipe,
        )
        context.store.put("master", record)
        return PassResult(notes=(f"{context.metric.text(found.accuracy)} on held-out images", str(structure)))

    def trained(self, context: Context, structure: Structure) -> tuple[SuperBlockNetwork, str]:
        """Return a network of ``structure`` trained from nothing, in eval mode, and the recipe's fingerprint."""
        network = fresh(structure, *shape_of(context), context.seed)
        parts = parts_of(context.dataset, context.seed)
        way = self._way()
        recipe = way.recipe(context, f"master/{structure}", size(parts.fit))
        state, _ = way.train(context, network, recipe, parts)
        network.load_state_dict(state.best)
        return network.eval(), recipe.fingerprint

    def _way(self) -> FinetunePass:
        return FinetunePass(epochs=self.epochs, distillation=self.distillation, channels_last=True)


def _fits(structure: Structure, weights: Mapping[str, Tensor]) -> bool:
    """Return whether the weights are those of a network of ``structure``, by names and shapes."""
    if not {"head.fc.bias", "stem.conv.weight"} <= weights.keys():
        return False
    with torch.device("meta"):
        wanted = SuperBlockNetwork(structure, len(weights["head.fc.bias"]), weights["stem.conv.weight"].shape[1])
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    return shapes == {name: tensor.shape for name, tensor in wanted.state_dict().items()}


def master_of(context: Context) -> tuple[Structure, dict[str, Tensor]]:
    """Return the MasterNet's structure and weights.

    Raises:
        UsageError: the run has none yet.
        LostError: the file of its weights is missing.
    """
    record = context.store.get(MasterRecord, "master")
    if record is None:
        raise UsageError("the run has no MasterNet yet; run: hant-opt design MODEL")
    if not context.store.path(record.file).is_file():
        raise LostError(f"{context.store.path(record.file)} is missing", MasterRecord.kind)
    weights = context.store.load_tensors(record.file, digest=record.digest)
    return Structure.parse(record.structure), weights
