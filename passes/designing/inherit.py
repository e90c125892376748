"""Weights that a varied network takes over from the MasterNet, so that it begins near to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ...op_library.structure import Structure, SuperBlockNetwork
from ...transformer.tools.seeds import derived_seed


def varied(structure: Structure, weights: Mapping[str, Tensor], seed: int) -> SuperBlockNetwork:
    """Return the network of ``structure``, in eval mode, with what fits of ``weights``; the rest is drawn by the seed.

    ``weights`` are a network's of the same places; ``classes`` and ``channels`` are theirs.
    """
    network = fresh(structure, len(weights["head.fc.bias"]), weights["stem.conv.weight"].shape[1], seed)
    inherit(network, weights)
    return network


def fresh(structure: Structure, classes: int, channels: int, seed: int) -> SuperBlockNetwork:
    """Return the network of ``structure`` with weights that the seed alone decides, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "design", str(structure)))
        return SuperBlockNetwork(structure, classes, channels).eval()


@torch.no_grad()
def inherit(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Take over what overlaps of tensors of the same name.

    1. Of more output channels the first are as they were; the others begin as they are.
    2. Input channels that were not there count nothing at first, so that a wider network computes the same.
    3. A kernel lies in the middle of a larger one, the rest of which is 0, or is cut to its middle.
    4. A basic block that was not there adds nothing at first: its last norm scales by 0.
    5. A projection that was not there hands the first channels on.
    """
    own = network.state_dict(keep_vars=True)
    for name, tensor in own.items():
        if name in weights:
            _take(tensor, weights[name].to(tensor.device))
        elif name.endswith("shortcut.conv.weight"):
            nn.init.dirac_(tensor)
    for block in _new_blocks(own, weights):
        last = [name for name in own if name.startswith(f"{block}.conv") and name.endswith("bn.weight")][-1]
        if not any(name.startswith(f"{block}.shortcut.") for name in own):
            own[last].zero_()


def _new_blocks(own: Iterable[str], weights: Iterable[str]) -> list[str]:
    """Return the paths of basic blocks, ``stages.i.j``, that only the new network has."""
    mine, theirs = ({".".join(name.split(".")[:3]) for name in names} for names in (own, weights))
    return sorted(path for path in mine - theirs if path.startswith("stages."))


def _take(tensor: Tensor, given: Tensor) -> None:
    if tensor.ndim != given.ndim:
        return
    if tensor.ndim == 0:
        tensor.copy_(given)
        return
    rows = slice(0, min(len(tensor), len(given)))
    if tensor.ndim == 1:
        tensor[rows] = given[rows]
        return
    columns = slice(0, min(tensor.shape[1], given.shape[1]))
    there, here = (_middle(shape, other) for shape, other in ((given, tensor), (tensor, given)))
    tensor[rows] = 0
    tensor[(rows, columns, *here)] = given[(rows, columns, *there)]


def _middle(tensor: Tensor, other: Tensor) -> Sequence[slice]:
    """Return the middle of the tensor's kernel that is as large as the other's, where it is larger."""
    sizes = zip(tensor.shape[2:], other.shape[2:], strict=True)
    return [slice(max(0, mine - theirs) // 2, max(0, mine - theirs) // 2 + min(mine, theirs)) for mine, theirs in sizes]
