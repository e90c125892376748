"""Reading an ONNX file with a converter, onnx2torch, for the operators that it knows. Nothing in a file is run."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import version_converter
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor
from torch import nn

from ..errors import LoadError, MissingExtraError

_DOMAINS = ("", "ai.onnx")
_OPSET = 17
"""The newest version of ONNX's operators that the converter knows in full."""
_MOST_SIZES = 8
"""More than a shape has."""


def load_onnx(path: Path) -> tuple[nn.Module, tuple[tuple[int, ...], ...]]:
    """Return the network of an ONNX file in eval mode, and the shapes of its inputs for one sample, () if unknown.

    1. Tensors outside of the file are read from regular files beside it only, and only as far as those go.
    2. Nodes get names that are identifiers, because the converter's result has them in generated code.

    Raises:
        LoadError: missing, damaged, tensors from elsewhere, or an operator that the converter does not know.
        MissingExtraError: the converter is not installed.
    """
    if not path.is_file():
        raise LoadError(f"model file {path} does not exist")
    try:
        converter = importlib.import_module("onnx2torch.converter")
    except ImportError as error:
        raise MissingExtraError("onnx2torch", "onnx", "reading an ONNX file") from error
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's errors share no base that it exports
        raise LoadError(f"{path} is damaged: it is no ONNX model; fetch or export it again") from error
    try:
        _rename(path, model.graph)
        for tensor in _tensors(model.graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                _load_outside(path, tensor)
    except TypeError as error:  # protobuf gives bytes for text that is none
        raise LoadError(f"{path} is damaged: a name in it is no text; fetch or export it again") from error
    try:
        network: nn.Module = converter.convert(_spoken(model))
    except Exception as error:  # the converter fails in its own ways
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise LoadError(f"{path} cannot be converted to PyTorch: {reason[:200]}; give weights and --arch") from error
    return network.eval(), _input_shapes(model)


def _rename(path: Path, graph: Any) -> None:
    taken = {"initializers"}
    for position, node in enumerate(graph.node):
        if node.domain not in _DOMAINS:
            operator = f"{node.domain[:40]}.{node.op_type[:40]}"
            raise LoadError(
                f"{path} uses the operator {operator}, which is not of ONNX itself; give weights and --arch"
            )
        name = re.sub(r"\W+", "_", node.name or node.op_type, flags=re.ASCII).strip("_")[:80]
        if name in taken or not name.isidentifier() or hasattr(nn.Module, name):
            name = f"node_{position}_{name}".rstrip("_")
        taken.add(name)
        node.name = name


def _spoken(model: Any) -> Any:
    """Return the model as the converter expects it, equal in value: older operators, constants where they are read."""
    opset = max((entry.version for entry in model.opset_import if entry.domain in _DOMAINS), default=_OPSET)
    if opset > _OPSET:
        onnx.checker.check_model(model)  # the version converter ends the process where a node reads what none makes
        for tensor in model.graph.initializer:  # the version converter of ONNX 1.21 loses axes that are kept as bytes
            if tensor.data_type == onnx.TensorProto.INT64 and tensor.HasField("raw_data"):
                values = onnx.numpy_helper.to_array(tensor).ravel().tolist()
                tensor.CopyFrom(onnx.helper.make_tensor(tensor.name, tensor.data_type, tensor.dims, values))
        model = version_converter.convert_version(model, _OPSET)
    constants = {tensor.name for tensor in model.graph.initializer}
    copied: dict[str, str] = {}
    for node in list(model.graph.node):
        for position, name in enumerate(node.input):
            node.input[position] = copied.get(name, name)
        if node.op_type == "Identity" and node.input[0] in constants:
            copied[node.output[0]] = node.input[0]
            model.graph.node.remove(node)
        elif node.op_type == "Reshape":  # a size of 0 occurs in empty tensors only
            kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)
    _fix_reshapes(model.graph)
    return model


def _fix_reshapes(graph: Any) -> None:
    """Give a number to the one size that a Reshape computes, as ``x.view(x.size(0), -1)`` is written in a file.

    0 stands for the size that the tensor has there already, -1 for what the other sizes leave.
    """
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if _small(tensor)}
    makers = {name: node for node in graph.node for name in node.output}
    for node in makers.values():
        if node.op_type == "Constant" and node.attribute and _small(node.attribute[0].t):
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    for node in graph.node:
        concat = makers.get(node.input[1]) if node.op_type == "Reshape" and len(node.input) > 1 else None
        if concat is None or concat.op_type != "Concat":
            continue
        parts = [constants.get(name) for name in concat.input]
        computed = [place for place, part in enumerate(parts) if part is None]
        sizes = [int(size) for part in parts if part is not None for size in part.ravel()]
        if computed != [0] or (source := _dimension(concat.input[0], makers, constants)) is None:
            continue
        left, here = all(size > 0 for size in sizes), (node.input[0], 0)
        if left or source == here or _same(graph, source, here):
            first = -1 if left else 0
            name = f"{node.name}_sizes"
            graph.initializer.append(onnx.numpy_helper.from_array(np.array([first, *sizes], np.int64), name))
            node.input[1] = name
    _drop_unused(graph)


def _same(graph: Any, *places: tuple[str, int]) -> bool:
    """Return whether the file gives the sizes of the tensors in these dimensions one name, such as ``batch``."""
    shapes = {entry.name: entry.type.tensor_type.shape.dim for entry in (*graph.input, *graph.value_info)}
    names = {shapes[name][at].dim_param if name in shapes and at < len(shapes[name]) else "" for name, at in places}
    return len(names) == 1 and "" not in names


def _dimension(name: str, makers: Mapping[str, Any], constants: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return the tensor whose size the value of one element is, and the dimension; None for any other value."""
    node = makers.get(name)
    while node is not None and node.op_type in ("Unsqueeze", "Squeeze", "Cast", "Identity"):
        node = makers.get(node.input[0])
    if node is None:
        return None
    if node.op_type == "Shape":
        ends = {attribute.name: attribute.i for attribute in node.attribute}
        start = ends.get("start", 0)
        return (node.input[0], start) if ends.get("end") == start + 1 else None
    shape = makers.get(node.input[0]) if node.op_type == "Gather" else None
    index = constants.get(node.input[1]) if shape is not None and shape.op_type == "Shape" else None
    if shape is None or shape.attribute or index is None or index.size != 1:
        return None
    return shape.input[0], int(index.item())


def _small(tensor: Any) -> bool:
    return bool(tensor.data_type == onnx.TensorProto.INT64 and math.prod(tensor.dims) <= _MOST_SIZES)


def _drop_unused(graph: Any) -> None:
    """Take out the nodes that nothing reads any more."""
    used = {entry.name for entry in graph.output}
    for node in reversed(list(graph.node)):
        if used.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            used.update(node.input)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _tensors(inner)


def _load_outside(path: Path, tensor: Any) -> None:
    """Read a tensor that lies in another file."""
    what = f"{path} keeps the tensor {tensor.name[:60]!r} in {_location(tensor)[:120]!r}"
    place = Path(_location(tensor))
    folder = path.parent.resolve()
    if not place.name or place.is_absolute() or ".." in place.parts or (folder / place).resolve() != folder / place:
        raise LoadError(f"{what}, outside of its own folder or behind a link; only files beside it are read")
    file = folder / place
    if not file.is_file():
        raise LoadError(f"{what}, which does not exist; put it beside the model")
    try:
        info = ExternalDataInfo(tensor)
        offset, length = int(info.offset or 0), int(info.length or 0)
        declared = math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (ValueError, TypeError, KeyError) as error:
        raise LoadError(f"{what} in a way that cannot be read: {str(error)[:80]}; export it again") from error
    size = file.stat().st_size
    if offset < 0 or (length and length != declared) or declared < 0 or offset + declared > size:
        raise LoadError(f"{what} and declares {declared} bytes at {offset}; the file has {size}; export it again")
    load_external_data_for_tensor(tensor, str(folder))
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _location(tensor: Any) -> str:
    return next((str(entry.value) for entry in tensor.external_data if entry.key == "location"), "")


def _input_shapes(model: Any) -> tuple[tuple[int, ...], ...]:
    constants = {tensor.name for tensor in model.graph.initializer}
    shapes = []
    for entry in model.graph.input:
        if entry.name not in constants:
            sizes = [dim.dim_value for dim in entry.type.tensor_type.shape.dim][1:]
            if not sizes or not all(size > 0 for size in sizes):
                return ()
            shapes.append(tuple(sizes))
    return tuple(shapes)
