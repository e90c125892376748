"""Networks whose modules keep more than tensors in their state (``get_extra_state``)."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.module import _EXTRA_STATE_KEY_SUFFIX as KEY


def drop_extra_state(network: nn.Module) -> nn.Module:
    """Keep what is no tensor out of the state dict of ``network``, and do not ask for it when one is loaded.

    Such state stays with the modules; runs keep tensors only.
    """
    for module in network.modules():
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            module.register_state_dict_post_hook(_drop)  # type: ignore[no-untyped-call]
            module.register_load_state_dict_post_hook(_forgive)  # type: ignore[no-untyped-call]
    return network


def _drop(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    state.pop(prefix + KEY, None)


def _forgive(module: nn.Module, incompatible: Any) -> None:
    incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if key.rpartition(".")[2] != KEY]
