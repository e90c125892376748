"""Trying a replacement before it goes into the graph."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ...op_library.cost import MacCounter
from ...op_library.tensor_spec import TensorSpec
from ..errors import UnfitError
from ..ir.block import Block
from ..tools.modes import evaluating, preserved

_SAMPLES = 2


@dataclass(frozen=True)
class Probe:
    """What was learnt from one run."""

    macs: int
    """Multiply-accumulates for one sample."""
    signature: str


def probe(block: Block, module: nn.Module) -> Probe:
    """Run ``module`` once on fake tensors of the block's input contract and check what it returns.

    Raises:
        UnfitError: it fails, or returns another shape or type than the block's output contract says.
    """
    macs = sum(_probe(block, module, *contract) for contract in block.contracts)
    return Probe(macs, _signature(block, module))


def _probe(block: Block, module: nn.Module, input: TensorSpec, output: TensorSpec) -> int:
    """Check one contract and return the multiply-accumulates for one sample."""
    made, macs = _run(block, module, input)
    expected = (_SAMPLES * output.batch, *output.shape)
    what = f"the replacement {type(module).__name__} of block {block.name!r}"
    if not isinstance(made, Tensor):
        raise UnfitError(f"{what} returns a {type(made).__name__}; a block returns one tensor of {output}")
    if tuple(made.shape) != expected or made.dtype != output.torch_dtype:
        raise UnfitError(
            f"{what} returns {tuple(made.shape)} {str(made.dtype).removeprefix('torch.')} for a batch of {_SAMPLES}; "
            f"expected {expected} {output.dtype} (the block maps {input} to {output})"
        )
    return macs // _SAMPLES


def _run(block: Block, module: nn.Module, input: TensorSpec) -> tuple[object, int]:
    errors: list[Exception] = []
    specs = (input, *block.sides)
    with evaluating(module), preserved(module), torch.no_grad():
        for fake in (True, False):  # an operation without a fake form runs on data
            device = next((p.device for p in module.parameters()), torch.device("cpu"))
            try:
                with FakeTensorMode(allow_non_fake_inputs=True) if fake else torch.no_grad(), MacCounter() as counter:
                    return module(*(_zeros(spec, device) for spec in specs)), counter.total
            except Exception as error:  # user code: any error means that it does not fit
                errors.append(error)
    first = str(errors[-1]).strip().splitlines()
    raise UnfitError(
        f"the replacement {type(module).__name__} of block {block.name!r} fails on its input {input}: "
        f"{type(errors[-1]).__name__}: {first[0] if first else ''}"
    )


def _zeros(spec: TensorSpec, device: torch.device) -> Tensor:
    shape = spec.shape if spec.batch == 0 else (_SAMPLES * spec.batch, *spec.shape)
    return torch.zeros(shape, dtype=spec.torch_dtype, device=device)


def _signature(block: Block, module: nn.Module) -> str:
    """Hash structure, settings and shapes as far as the module's text form tells them."""
    sizes = [tuple(p.shape) for p in module.parameters()]
    classes = [f"{type(m).__module__}.{type(m).__qualname__}" for m in module.modules()]
    text = repr((repr(module), classes, sizes, str(block.input), str(block.output)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
