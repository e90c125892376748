"""Giving a network the weights of a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ..errors import LoadError

_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.", "ema_model.", "ema.", "student.", "backbone.")
_COUNTER = "num_batches_tracked"
_SHOWN = 4


def _state(network: nn.Module) -> dict[str, Tensor]:
    """Return the state dict without what modules keep beside tensors."""
    return {key: tensor for key, tensor in network.state_dict().items() if isinstance(tensor, Tensor)}


def stripped(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors without the prefixes of wrappers (DataParallel, compiled, averaged) around the network."""
    wanted = _state(network).keys()
    found = dict(tensors)
    for _ in range(3):
        if found.keys() & wanted:
            return found
        prefix = next((w for w in _WRAPPERS if any(key.startswith(w) for key in found)), None)
        if prefix is None:
            return dict(tensors)
        found = {key.removeprefix(prefix): tensor for key, tensor in found.items() if key.startswith(prefix)}
    return found if found.keys() & wanted else dict(tensors)


def fits_but_for_classes(network: nn.Module, tensors: Mapping[str, Tensor]) -> int | None:
    """Return the number of rows of the last layer in the file, if it alone has another number than the network."""
    own = _state(network)
    other = [k for k, t in tensors.items() if k in own and own[k].shape != t.shape]
    heads = {key.rpartition(".")[0] for key in other}
    if not other or any(own[k].shape[1:] != tensors[k].shape[1:] for k in other):
        return None
    rows = {tensors[k].shape[0] for k in other}
    return rows.pop() if len(rows) == 1 and len(heads) <= 2 else None


def assign(network: nn.Module, tensors: Mapping[str, Tensor], file: Path, exact: bool = False) -> None:
    """Load ``tensors`` into ``network``; batch counters may be missing or in excess.

    Args:
        network: gets the weights.
        tensors: a state dict.
        file: for messages.
        exact: the network is on the meta device and takes the tensors themselves.

    Raises:
        LoadError: the first of what is missing, unexpected, and of other shape.
    """
    own = _state(network)
    missing = [key for key in own if key not in tensors and not key.endswith(_COUNTER)]
    unexpected = [key for key in tensors if key not in own and not key.endswith(_COUNTER)]
    other = [key for key in own if key in tensors and own[key].shape != tensors[key].shape]
    if exact:
        missing = [key for key in own if key not in tensors]
        other += [key for key in own if key in tensors and own[key].dtype != tensors[key].dtype and key not in other]
    if missing or unexpected or other:
        raise LoadError(_differences(file, own, tensors, missing, unexpected, other))
    fitting = {key: tensor for key, tensor in tensors.items() if key in own}
    network.load_state_dict(fitting, strict=False, assign=exact)


def retie(network: nn.Module, tied: Mapping[str, str]) -> None:
    """Make each tensor of ``tied`` (key -> key of another) the other one itself, so that they train as one."""
    for key, original in tied.items():
        (path, _, name), (source, _, first) = key.rpartition("."), original.rpartition(".")
        owner, held = network.get_submodule(path), network.get_submodule(source)
        for kind in ("_parameters", "_buffers"):
            if name in getattr(owner, kind) and first in getattr(held, kind):
                setattr(owner, name, getattr(held, first))


def _differences(
    file: Path,
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    missing: list[str],
    unexpected: list[str],
    other: list[str],
) -> str:
    told = [f"missing {key} ({_size(own[key])})" for key in _few(missing)]
    told += [f"unexpected {key} ({_size(tensors[key])})" for key in _few(unexpected)]
    told += [f"{key} is {_size(own[key])} in the network and {_size(tensors[key])} in the file" for key in _few(other)]
    return (
        f"the weights in {file} are of another network: {len(missing)} missing, {len(unexpected)} unexpected, "
        f"{len(other)} of other shape, of {len(own)} tensors ({', '.join(told)}); check --arch and --arch-kwargs"
    )


def _few(keys: list[str]) -> list[str]:
    return keys[:_SHOWN]


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
