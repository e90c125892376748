"""From a module to a single-file ONNX graph.

The exporter costs about 0.5 s a call and 0.15 s a block, so many small modules go through it as one graph with
disjoint parts, which is then taken apart.
"""

from __future__ import annotations

import copy
import functools
import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from ...transformer.errors import CaptureError
from ...transformer.tools.files import write_atomically
from ...transformer.tools.modes import evaluating
from .fold import folded
from .split import split_parts

OPSET = 20
_NOISY = ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")


class _SideBySide(nn.Module):
    """Modules that run next to each other, one input tensor each."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run each module on its input."""
        return tuple(part(tensor) for part, tensor in zip(self.parts, inputs, strict=True))


def export_graph(module: nn.Module, inputs: Sequence[Tensor], dynamic_batch: bool = False) -> onnx.ModelProto:
    """Return the checked ONNX graph of ``module`` in eval mode.

    Raises:
        CaptureError: the exporter cannot take it, with its reason.
    """
    with evaluating(module), torch.no_grad(), _quiet(), _translations_kept():
        try:
            model = _export(module, tuple(inputs), dynamic_batch)
            onnx.checker.check_model(model)
        except Exception as error:  # the exporter's errors share no base class
            raise CaptureError(f"cannot export {type(module).__name__} to ONNX: {_reason(error)}") from error
    return model


def export_many(modules: Sequence[nn.Module], inputs: Sequence[Tensor]) -> list[onnx.ModelProto | CaptureError]:
    """Return a graph for each module of one input and one output, or why there is none.

    A module that cannot be exported is found by halving, so one bad module costs a few calls, not one a module.
    """
    if len(modules) == 1:
        try:
            return [export_graph(_light(modules[0]), inputs)]
        except CaptureError as error:
            return [error]
    try:
        # one tensor given twice would become one input
        apart = [tensor.clone() for tensor in inputs]
        return list(split_parts(export_graph(_SideBySide([_light(module) for module in modules]), apart)))
    except CaptureError:
        half = len(modules) // 2
        return export_many(modules[:half], inputs[:half]) + export_many(modules[half:], inputs[half:])


def _light(module: nn.Module) -> nn.Module:
    """Return what the exporter makes the same graph of, in less time."""
    try:
        return folded(module)
    except CaptureError:  # it cannot be copied
        return module


def write_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write one self-contained file, atomically."""
    write_atomically(path, model.SerializeToString())


def _export(module: nn.Module, inputs: tuple[Tensor, ...], dynamic_batch: bool) -> onnx.ModelProto:
    shapes = None
    if dynamic_batch:
        # an example batch of 1 would be taken for a constant
        inputs = tuple(torch.cat([tensor, tensor]) if len(tensor) == 1 else tensor for tensor in inputs)
        shapes = tuple({0: torch.export.Dim("batch")} for _ in inputs)
    names = ["input"] if len(inputs) == 1 else [f"input_{i}" for i in range(len(inputs))]
    program = torch.onnx.export(
        module,
        inputs,
        dynamo=True,
        opset_version=OPSET,
        input_names=names,
        dynamic_shapes=shapes,
        external_data=False,
        verbose=False,
    )
    assert program is not None
    return _with_own_outputs(program.model_proto)


def _with_own_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Name the outputs of a network that returns an input as it is apart from that input.

    The exporter gives both one name, sometimes through an ``Identity`` from the name to itself, which no runtime takes.
    """
    inputs = {item.name for item in model.graph.input}
    for index, output in enumerate(model.graph.output):
        if output.name not in inputs:
            continue
        given, output.name = output.name, f"{output.name}_same_{index}"
        for node in model.graph.node:
            if node.op_type == "Identity" and list(node.output) == [given]:
                node.output[0] = output.name
                break
        else:
            model.graph.node.append(onnx.helper.make_node("Identity", [given], [output.name]))
    return model


def _reason(error: BaseException) -> str:
    """Return the innermost cause in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@functools.cache
def _table(build: Callable[..., Any], args: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> Any:
    return build(*args, **dict(named))


@contextmanager
def _translations_kept() -> Iterator[None]:
    """Let the exporter take its table of translations from the call before.

    At every call it parses the signatures of all functions of its library anew: two thirds of what a small graph costs.
    There is no public way to hand a table over; where a version of torch has another inside, each call builds its own.
    """
    try:
        registry: Any = importlib.import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
        build = vars(registry)["from_torchlib"]
    except (ImportError, AttributeError, KeyError):
        yield
        return

    def kept(*args: Any, **kwargs: Any) -> Any:
        table = copy.copy(_table(build.__get__(None, registry), args, tuple(kwargs.items())))
        table.functions = {target: list(functions) for target, functions in table.functions.items()}
        return table

    registry.from_torchlib = staticmethod(kept)
    try:
        yield
    finally:
        registry.from_torchlib = build


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks off the user's terminal; what matters comes back as an error."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        # onnxscript 0.6 prints how many rules it applied
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
