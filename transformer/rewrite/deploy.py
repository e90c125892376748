"""From the network that trains to the network that runs: branches become one convolution."""

from __future__ import annotations

from torch import nn

from ...op_library.reparameterise import TrainingForm
from ..tools.submodules import with_submodules


def deploy(module: nn.Module) -> nn.Module:
    """Return ``module`` as it runs: every ``TrainingForm`` in it is what it becomes for inference.

    Whatever is timed, counted, exported or saved for users goes through here first, so that an operation is judged by
    what is deployed. In eval mode the outputs agree to 1e-5 (float32). ``module`` is unchanged, and returned as it is
    where there is nothing to exchange; all other submodules are shared with it.
    """
    forms = {id(part): part.fused() for part in module.modules() if isinstance(part, TrainingForm)}
    paths = ((path, part) for path, part in module.named_modules(remove_duplicate=False) if id(part) in forms)
    change = {path: forms[id(part)] for path, part in paths}
    return with_submodules(module, change) if change else module
