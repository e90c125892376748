"""From a module to a checkpoint that describes its network as data.

A torch.export archive would do as well, but its reader falls back to pickle: opening a run that came from elsewhere
could run code. The checkpoint holds weights and names of torch's functions only, and takes half as long to write.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ...transformer.errors import CaptureError
from ...transformer.files.save import save
from ...transformer.tools.copied import copied
from ...transformer.tools.files import write_atomically


def lower_module(module: nn.Module, inputs: Sequence[Tensor], precision: torch.dtype, path: Path) -> None:
    """Write ``module`` in eval mode at ``precision``; the module itself stays as it is. The batch is always open.

    Raises:
        CaptureError: the module cannot be recorded, with the reason.
    """
    frozen = copied(module)[0].eval().to(precision)
    examples = [tensor.to(precision) if tensor.is_floating_point() else tensor for tensor in inputs]
    try:
        write_atomically(path, lambda temporary: save(frozen, temporary, examples))
    except CaptureError as error:
        raise CaptureError(f"cannot record {type(module).__name__}: {error}") from error
