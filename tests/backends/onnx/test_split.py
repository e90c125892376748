"""Taking a joint graph apart."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hant.backends.onnx.split import split_parts
from hant.transformer.errors import CaptureError
from onnx import TensorProto, helper, numpy_helper


def value(name: str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, [2])


def joint(nodes: list[onnx.NodeProto], count: int = 2) -> onnx.ModelProto:
    """A model of inputs x0, x1, ... and outputs y0, y1, ... with a constant ``one`` that any part may read."""
    graph = helper.make_graph(
        nodes,
        "joint",
        [value(f"x{index}") for index in range(count)],
        [value(f"y{index}") for index in range(count)],
        [numpy_helper.from_array(np.ones(2, np.float32), "one")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, x: list[float]) -> list[float]:
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return session.run(None, {name: np.array(x, np.float32)})[0].tolist()  # type: ignore[no-any-return]


def test_each_part_keeps_its_own_nodes_in_order_and_the_constants_it_reads() -> None:
    nodes = [
        helper.make_node("Neg", ["x1"], ["n1"]),
        helper.make_node("Add", ["x0", "one"], ["a0"]),
        helper.make_node("Add", ["n1", "one"], ["y1"]),
        helper.make_node("Mul", ["a0", "a0"], ["y0"]),
    ]
    first, second = split_parts(joint(nodes))
    assert [node.op_type for node in first.graph.node] == ["Add", "Mul"]
    assert [node.op_type for node in second.graph.node] == ["Neg", "Add"]
    assert run(first, [1, 2]) == [4, 9]
    assert run(second, [1, 2]) == [0, -1]


def test_what_a_branch_reads_belongs_to_the_part() -> None:
    def branch(name: str, kind: str) -> onnx.GraphProto:
        return helper.make_graph([helper.make_node(kind, ["d0", "one"], [name])], name, [], [value(name)])

    nodes = [
        helper.make_node("Add", ["x0", "one"], ["d0"]),
        helper.make_node("ReduceSum", ["x0"], ["s0"], keepdims=0),
        helper.make_node("Greater", ["s0", "zero"], ["c0"]),
        helper.make_node("If", ["c0"], ["y0"], then_branch=branch("t", "Add"), else_branch=branch("e", "Sub")),
        helper.make_node("Neg", ["x1"], ["y1"]),
    ]
    model = joint(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "zero"))
    first, second = split_parts(model)
    assert run(first, [1, 2]) == [3, 4]
    assert run(first, [-1, -2]) == [-1, -2]
    assert [node.op_type for node in second.graph.node] == ["Neg"]


def test_parts_that_are_not_disjoint_are_refused() -> None:
    nodes = [helper.make_node("Add", ["x0", "x1"], ["y0"]), helper.make_node("Neg", ["x1"], ["y1"])]
    with pytest.raises(CaptureError, match="part y0 of a joint graph reads x1"):
        list(split_parts(joint(nodes)))
