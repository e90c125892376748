"""Make an exported graph ready for TensorRT: folded, cleaned, and with its precisions in the graph."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16
from polygraphy.backend.onnx import fold_constants  # pyright: ignore[reportAttributeAccessIssue]
from polygraphy.logger import G_LOGGER

Array = NDArray[np.generic]
_ROWS = 16
"""Samples that the calibration runs at a time, where the graph leaves it open: all values in between are kept."""
_QUANTIZED = ["Conv", "Gemm", "MatMul"]


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``model`` with constants and shapes folded, without identities and unused nodes."""
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        graph = gs.import_onnx(fold_constants(model))
    _without_identities(graph)
    return _sorted(graph.cleanup(), model.ir_version)


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``model`` with FP16 inside and its inputs and outputs as they were."""
    half = convert_float_to_float16(_copy(model), keep_io_types=True)
    return _sorted(gs.import_onnx(half), model.ir_version)  # the converter appends its casts at the end


def quantize(model: onnx.ModelProto, inputs: Sequence[Array]) -> onnx.ModelProto:
    """Return ``model`` with INT8 quantizers around convolutions and matrix products, calibrated on ``inputs``.

    Symmetric, weights per channel: the form that TensorRT takes in every version.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "quantized.onnx"
        quantize_static(
            _copy(model),
            path,
            _Batches(model, inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTIZED,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        )
        return onnx.load(path)


def _sorted(graph: gs.Graph, ir_version: int) -> onnx.ModelProto:
    """Return the model with every node after those it reads."""
    model: onnx.ModelProto = gs.export_onnx(graph.toposort())
    model.ir_version = ir_version
    return model


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy for a tool that changes what it is given."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _without_identities(graph: gs.Graph) -> None:
    """Let the readers of each identity read what it reads; those that make an output stay."""
    kept = {id(tensor) for tensor in graph.outputs}
    for node in [node for node in graph.nodes if node.op == "Identity"]:
        source, made = node.inputs[0], node.outputs[0]
        if id(made) in kept:
            continue
        for reader in list(made.outputs):
            reader.inputs = [source if tensor is made else tensor for tensor in reader.inputs]
        node.outputs.clear()


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Gives the samples to the calibration in batches as the graph takes them, an open batch in small ones."""

    def __init__(self, model: onnx.ModelProto, inputs: Sequence[Array]) -> None:
        first = model.graph.input[0].type.tensor_type.shape.dim[0]
        rows = first.dim_value or _ROWS
        names = [item.name for item in model.graph.input]
        whole = len(inputs[0]) // rows * rows if first.dim_value else len(inputs[0])
        parts = ([array[start : start + rows] for array in inputs] for start in range(0, whole, rows))
        self._feeds = (dict(zip(names, part, strict=True)) for part in parts)

    def get_next(self) -> dict[str, Array] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return next(self._feeds, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice off the user's terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
