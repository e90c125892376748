"""Weights that repeat themselves: a graph as fast as before, which packs into a fraction of its size."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

_KEPT = 4096  # bytes of a tensor that are kept and repeated; smaller ones (shapes, biases) stay as they are


def tiled(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of ``model`` in which every larger constant repeats its own first 4 KiB.

    Latency does not depend on the values of weights as long as they are of a usual size, and these keep theirs. Index
    tables stay in range.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        content = numpy_helper.to_array(tensor)
        flat = content.reshape(-1).copy()
        period = _KEPT // max(1, content.itemsize)
        if flat.size > period:
            for start in range(period, flat.size, period):
                flat[start : start + period] = flat[: min(period, flat.size - start)]
            tensor.CopyFrom(numpy_helper.from_array(flat.reshape(content.shape), tensor.name))
    return copy
