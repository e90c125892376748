"""What fine-tuning starts from: the student, with the weights that are to be preloaded (HANT table 6)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...transformer.contracts.context import Context
from ...transformer.errors import UsageError
from ...transformer.ir.graph import Graph
from ...transformer.tools.seeds import derived_seed
from ..networks.assemble import CandidateWeights, blank, build_student, independent


def start_of(context: Context, choice: Mapping[str, str | list[str]], preload: str) -> str:
    """Return a hash of the choice, of how its candidates were trained, and of what is preloaded.

    A block may have several operations in it: of a network that many students share.
    """
    recipes = CandidateWeights(context.store, trained=True).recipes
    pairs = [f"{b}/{o}" for b, chosen in choice.items() for o in ([chosen] if isinstance(chosen, str) else chosen)]
    parts = {key: recipes[key] for key in pairs if key in recipes}
    return hashlib.sha256(json.dumps([dict(choice), parts, preload], sort_keys=True).encode()).hexdigest()[:16]


def student(context: Context, choice: Mapping[str, str], preload: str = "all") -> Graph:
    """Return the network of ``choice`` to train; it shares no parameter with anything.

    ``preload`` is ``all`` (the teacher's weights and the trained candidates'), ``teacher`` (the teacher's; candidates
    as they were before pretraining) or ``none``.

    Raises:
        UsageError: ``none``, and a parameter that nobody knows how to initialise.
    """
    if preload == "all":
        graph = independent(build_student(context.teacher, choice, CandidateWeights(context.store, trained=True)))
    else:
        graph = independent(blank(context.teacher, choice, context.seed))
    if not any(parameter.requires_grad for parameter in context.teacher.network.parameters()):
        for parameter in graph.network.parameters():  # frozen as a whole for inference, not to stay as it is
            parameter.requires_grad_(parameter.is_floating_point())
    if preload == "none":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(context.seed, "finetune", "start"))
            initialise(graph.network)
    return graph


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Draw every weight anew: layers by their own ``reset_parameters``, what stands alone by its name and shape.

    Raises:
        UsageError: a vector whose name does not say what it is.
    """
    done: set[int] = set()
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
            own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
            done |= {id(tensor) for tensor in own}
    for name, tensor in network.state_dict(keep_vars=True).items():
        if id(tensor) not in done:
            _draw(name, tensor)


def _draw(name: str, tensor: Tensor) -> None:
    """Initialise one tensor as layers of its name do; matrices of other names as embeddings of transformers."""
    kind = name.replace("_", ".").rpartition(".")[2]
    if name.endswith("running_mean") or kind in ("bias", "tracked"):
        tensor.zero_()
    elif name.endswith("running_var") or (kind == "weight" and tensor.ndim == 1):
        tensor.fill_(1)
    elif kind == "weight":
        nn.init.kaiming_uniform_(tensor, a=math.sqrt(5))
    elif isinstance(tensor, nn.Parameter) and tensor.ndim > 1:
        nn.init.normal_(tensor, std=0.02)
    elif isinstance(tensor, nn.Parameter):
        raise UsageError(
            f"weight {name} cannot be drawn anew, its name says nothing; give finetune.preload=teacher, or "
            "shrink.start=teacher"
        )
