"""Lowering for TensorRT: what the graphs compute is checked in ONNX Runtime, that they build with TensorRT-RTX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hant.backends.onnx.export import export_graph
from hant.backends.targets.load import load_target
from hant.backends.tensorrt import support
from hant.backends.tensorrt.backend import TensorRTBackend
from hant.backends.tensorrt.build import build_engine
from hant.backends.tensorrt.prepare import prepare, quantize, to_half
from hant.transformer.contracts.target import Target
from hant.transformer.errors import CaptureError, LoadError
from hant.transformer.files.load import load
from onnx import TensorProto, helper
from torch import Tensor, nn

BACKEND = TensorRTBackend()
TEACHER = Path(__file__).parents[3] / "examples" / "digits" / "teacher.pt"
TARGET = load_target("rtx4090-trtrtx").model_copy(
    update={"options": {"flavour": "tensorrt-rtx", "compute_capabilities": ["8.6", "12.0"]}}
)


class Attention(nn.Module):
    """Reads its own shape, so that an open batch leaves shape arithmetic in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(8, 24, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.mix(x).reshape(x.shape[0], 3, 8, x.shape[2] * x.shape[3]).unbind(1)
        mixed: Tensor = v @ (k.transpose(1, 2) @ q).softmax(1)
        return mixed.reshape(x.shape)


def block() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU(), Attention()).eval()


def image(samples: int = 1) -> Tensor:
    return torch.randn(samples, 8, 6, 6, generator=torch.Generator().manual_seed(samples))


def run(model: onnx.ModelProto, x: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]  # type: ignore[no-any-return]


def expected(x: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    with torch.no_grad():
        return block()(x).numpy()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def fixed() -> onnx.ModelProto:
    return prepare(export_graph(block(), [image()]))


@pytest.fixture(scope="module")
def dynamic() -> onnx.ModelProto:
    return prepare(export_graph(block(), [image()], dynamic_batch=True))


def test_a_prepared_graph_computes_what_pytorch_does(fixed: onnx.ModelProto, dynamic: onnx.ModelProto) -> None:
    assert np.abs(run(fixed, image()) - expected(image())).max() < 1e-5
    for samples in (1, 3):
        assert np.abs(run(dynamic, image(samples)) - expected(image(samples))).max() < 1e-5


def test_preparing_folds_constants_and_drops_identities_and_dead_nodes() -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Add", ["one", "one"], ["two"]),
        helper.make_node("Mul", ["same", "two"], ["made"]),
        helper.make_node("Neg", ["same"], ["unused"]),
        helper.make_node("Identity", ["made"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    ends = [value("x", TensorProto.FLOAT, [2])], [value("y", TensorProto.FLOAT, [2])]
    graph = helper.make_graph(nodes, "g", *ends, [one])
    found = prepare(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    assert [node.op_type for node in found.graph.node] == ["Mul", "Identity"]  # the last one makes the output
    assert run(found, torch.tensor([3.0, 4.0])).tolist() == [6.0, 8.0]


def test_half_precision_is_inside_and_float32_outside(fixed: onnx.ModelProto) -> None:
    before = fixed.SerializeToString()
    half = to_half(fixed)
    kinds = {item.type.tensor_type.elem_type for item in (*half.graph.input, *half.graph.output)}
    weights = {tensor.data_type for tensor in half.graph.initializer if len(tensor.dims) == 4}
    assert (kinds, weights) == ({TensorProto.FLOAT}, {TensorProto.FLOAT16})
    assert 0 < np.abs(run(half, image()) - expected(image())).max() < 2e-2
    assert fixed.SerializeToString() == before


def test_int8_is_explicit_and_close(fixed: onnx.ModelProto) -> None:
    before = fixed.SerializeToString()
    quantized = quantize(fixed, [image().numpy()])
    kinds = {tensor.data_type for tensor in quantized.graph.initializer if len(tensor.dims) == 4}
    assert TensorProto.INT8 in kinds
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in quantized.graph.node}
    zeros = [tensor for tensor in quantized.graph.initializer if tensor.name.endswith("zero_point")]
    assert all(not np.any(onnx.numpy_helper.to_array(tensor)) for tensor in zeros)  # TensorRT takes symmetric only
    for model in (quantized, to_half(quantized)):
        error = np.abs(run(model, image()) - expected(image())).max()
        assert 0 < error < 0.25 * expected(image()).std()
    assert fixed.SerializeToString() == before


def test_int8_takes_its_ranges_from_all_images(dynamic: onnx.ModelProto) -> None:
    images = np.concatenate([image().numpy()] * 40)
    images[-1] *= 50
    quantized = quantize(dynamic, [images])
    first = next(node for node in quantized.graph.node if node.op_type == "QuantizeLinear")
    assert first.input[0] == quantized.graph.input[0].name
    (scale,) = (onnx.numpy_helper.to_array(t) for t in quantized.graph.initializer if t.name == first.input[1])
    assert float(scale) == pytest.approx(float(np.abs(images).max()) / 127, rel=0.02)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_engines_are_built_for_gpus_that_are_not_here(fixed: onnx.ModelProto, precision: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = quantize(fixed, [image().numpy()]) if precision == "int8" else fixed
    assert len(build_engine(model, TARGET.model_copy(update={"precision": precision}))) > 10_000


def test_an_engine_with_an_open_batch(dynamic: onnx.ModelProto) -> None:
    pytest.importorskip("tensorrt_rtx")
    assert len(build_engine(dynamic, TARGET)) > 10_000


def test_what_the_parser_refuses_is_said_in_its_words() -> None:
    pytest.importorskip("tensorrt_rtx")
    value = helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, [2, 2])], [value("y", TensorProto.FLOAT, [])]
    graph = helper.make_graph([helper.make_node("Det", ["x"], ["y"], name="volume")], "g", *ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(CaptureError, match=r"^tensorrt-rtx cannot read the graph: volume \(Det\): [^\n]+$"):
        build_engine(model, TARGET.model_copy(update={"precision": "fp32"}))


def test_a_gpu_that_it_does_not_know(fixed: onnx.ModelProto) -> None:
    pytest.importorskip("tensorrt_rtx")
    options = {"flavour": "tensorrt-rtx", "compute_capabilities": ["7.0"]}
    with pytest.raises(CaptureError, match=r"cannot build for SM70; it can for SM75, SM80, SM86, SM89, SM120"):
        build_engine(fixed, TARGET.model_copy(update={"options": options}))


def test_a_lowered_file_is_the_graph_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "x.lowered"
    BACKEND.lower(block(), [image()], TARGET, path)
    assert [item.name for item in tmp_path.iterdir()] == ["x.lowered"]
    assert np.abs(run(onnx.load(path), image()) - expected(image())).max() < 1e-5


def test_a_module_that_cannot_be_built_does_not_stop_the_others(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")

    class Determinant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.det(x)

    paths = [tmp_path / "0", tmp_path / "1"]
    reasons = BACKEND.lower_many([Determinant(), nn.ReLU()], [[image()], [image()]], TARGET, paths)
    assert reasons[0] is not None
    assert "(Det): " in reasons[0]
    assert reasons[1] is None
    assert [path.exists() for path in paths] == [False, True]


def test_a_graph_is_lowered_where_no_engine_can_be_built(tmp_path: Path) -> None:
    target = Target(name="v", backend="tensorrt", device="cuda", precision="int8")
    if support.cannot_build(target) is None:
        pytest.skip("TensorRT and its GPU are here")
    BACKEND.lower(block(), [image()], target, tmp_path / "x")
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(tmp_path / "x").graph.node)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no ONNX file at .*x; run the export first"),
        (b"no graph", r"x holds no ONNX graph: .*; export it again"),
    ],
)
def test_a_file_that_cannot_be_opened(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    with pytest.raises(LoadError, match=message):
        BACKEND.load(tmp_path / "x", TARGET)


@pytest.mark.parametrize(("precision", "share"), [("fp16", 1e-4), ("int8", 0.2)])
def test_a_whole_network_is_built_with_the_batch_open(tmp_path: Path, precision: str, share: float) -> None:
    pytest.importorskip("tensorrt_rtx")
    network, images = load(TEACHER), torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        right = network(images).numpy()
    target = TARGET.model_copy(update={"precision": precision})
    BACKEND.lower(network, [images], target, tmp_path / "x", dynamic_batch=True)
    # the written graph is FP32, or INT8 and FP32: FP16 comes in when it is built
    assert np.abs(run(onnx.load(tmp_path / "x"), images) - right).max() < share * np.abs(right).max()
