"""Norms folded into convolutions before the exporter sees them; it would do the same, after translating them.

A batch norm costs the exporter more than all the rest of a basic block.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ...transformer.tools.copied import copied


def folded(module: nn.Module) -> nn.Module:
    """Return a copy of ``module`` in eval mode, without batch norms that directly follow a convolution.

    That is certain of neighbours in a plain ``nn.Sequential``; others stay as they are.

    Raises:
        CaptureError: it cannot be copied.
    """
    made = copied(module)[0].eval()
    for rows in made.modules():
        if type(rows) is nn.Sequential:
            _fold(rows)
    return made


def _fold(rows: nn.Sequential) -> None:
    for (name, convolution), (following, norm) in pairwise(list(rows._modules.items())):
        if type(convolution) is nn.Conv2d and type(norm) is nn.BatchNorm2d and _told(norm):
            rows._modules[name] = fuse_conv_bn_eval(convolution, norm)
            del rows._modules[following]


def _told(norm: nn.BatchNorm2d) -> bool:
    """Return whether the norm's statistics are known."""
    return norm.running_mean is not None and norm.running_var is not None
