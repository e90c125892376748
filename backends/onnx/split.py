"""Take a graph of disjoint parts apart: output i and what it needs becomes model i."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from ...transformer.errors import CaptureError


def split_parts(model: ModelProto) -> Iterator[ModelProto]:
    """Yield one model for each pair of input i and output i of ``model``.

    Raises:
        CaptureError: a part reads another part's input.
    """
    graph = model.graph
    producers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for given, made in zip(graph.input, graph.output, strict=True):
        nodes, used, free = _needed(graph, made.name, producers, constants)
        if free - {given.name}:
            raise CaptureError(f"part {made.name} of a joint graph reads {', '.join(sorted(free - {given.name}))}")
        yield _part(model, given, made, nodes, used)


def _needed(
    graph: GraphProto, output: str, producers: dict[str, int], constants: dict[str, TensorProto]
) -> tuple[list[NodeProto], list[TensorProto], set[str]]:
    """Return the nodes in order, the constants and the free inputs that ``output`` depends on."""
    seen: set[str] = set()
    chosen: set[int] = set()
    used: list[TensorProto] = []
    free: set[str] = set()
    stack = [output]
    while stack:
        name = stack.pop()
        if name in seen or not name:
            continue
        seen.add(name)
        if name in producers:
            chosen.add(producers[name])
            stack.extend(_reads(graph.node[producers[name]]))
        elif name in constants:
            used.append(constants[name])
        else:
            free.add(name)
    return [graph.node[index] for index in sorted(chosen)], used, free


def _reads(node: NodeProto) -> Iterator[str]:
    """Yield every value a node reads, those of its subgraphs included."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            inner = attribute.g
            own = {name for part in inner.node for name in part.output} | {item.name for item in inner.input}
            own |= {tensor.name for tensor in inner.initializer}
            for part in inner.node:
                yield from (name for name in _reads(part) if name not in own)


def _part(
    model: ModelProto, given: ValueInfoProto, made: ValueInfoProto, nodes: list[NodeProto], used: list[TensorProto]
) -> ModelProto:
    part = ModelProto()
    part.ir_version = model.ir_version
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = made.name
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(used)
    part.graph.input.append(given)
    part.graph.output.append(made)
    return part
