"""From a module to a ``torch.export`` archive."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from ...transformer.contracts.store import write_atomically
from ...transformer.errors import CaptureError


def export_program(
    module: nn.Module, inputs: Sequence[Tensor], precision: torch.dtype, dynamic_batch: bool = False
) -> ExportedProgram:
    """Return the program of ``module`` in eval mode at ``precision``; the module itself stays as it is.

    Raises:
        CaptureError: torch.export cannot take it, with its reason.
    """
    frozen = copy.deepcopy(module).eval().to(precision)
    examples = tuple(tensor.to(precision) if tensor.is_floating_point() else tensor for tensor in inputs)
    shapes = None
    if dynamic_batch:
        examples = tuple(torch.cat([tensor, tensor]) if len(tensor) == 1 else tensor for tensor in examples)
        shapes = tuple({0: Dim.DYNAMIC} for _ in examples)
    try:
        with _quiet(), torch.no_grad():
            return export(frozen, examples, dynamic_shapes=shapes)
    except Exception as error:  # the exporter's errors share no base class
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise CaptureError(f"cannot export {type(module).__name__}: {reason}") from error


def write_program(program: ExportedProgram, path: Path) -> None:
    """Write one self-contained archive, atomically."""

    def save(temporary: Path) -> None:
        with temporary.open("wb") as handle:
            torch.export.save(program, handle)

    write_atomically(path, save)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks off the user's terminal; what matters comes back as an error."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
