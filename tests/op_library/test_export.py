"""Every operation leaves torch: torch.export and ONNX, with a dynamic batch, and runs the same in ONNX Runtime."""

from __future__ import annotations

import io
import logging

import hant
import numpy as np
import onnxruntime
import pytest
import torch
from hant.op_library.op_spec import OpSpec
from hant.op_library.pools import operation
from hant.op_library.reparameterise import fuse
from hant.op_library.tensor_spec import Layout, TensorSpec

POOL = tuple(spec for spec in hant.pool("hant-197") if spec.name != "teacher")
SAMPLE = (
    "efn_3x3_e3_se0.25",
    "efnv2_3x3_e3_se1.00",
    "cb_bottle_3x3_ex0.5",
    "conv_cs_3x3",
    "repvgg_3x3",
    "vit_d1_w32_h4",
    "bot_trans_e0.5",
    "lambda_e0.5",
)
STRIDED = (TensorSpec((6, 33, 33)), TensorSpec((12, 17, 17)))
SAME = (TensorSpec((16, 7, 7)), TensorSpec((16, 7, 7)))
TOKENS = (TensorSpec((17, 8), layout=Layout.TOKENS), TensorSpec((17, 8), layout=Layout.TOKENS))
CHANNELS_LAST = (TensorSpec((7, 7, 8), layout=Layout.NHWC), TensorSpec((4, 4, 6), layout=Layout.NHWC))


def check(spec: OpSpec, input: TensorSpec, output: TensorSpec) -> None:
    module = spec.build(input, output)
    with torch.no_grad():
        # statistics of a batch norm that was trained
        module(input.random(8))
    module = fuse(module).eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(module, (input.random(2),), dynamic_shapes=({0: batch},))
    session = lower(program)
    for rows in (1, 2, 5):
        x = input.random(rows)
        with torch.no_grad():
            expected = module(x)
            torch.testing.assert_close(program.module()(x), expected, rtol=1e-5, atol=1e-5)
        (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        assert got.shape == (rows, *output.shape)
        assert np.abs(got - expected.numpy()).max() <= 1e-4


def lower(program: torch.export.ExportedProgram) -> onnxruntime.InferenceSession:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    onnx = torch.onnx.export(program, dynamo=True, verbose=False)
    assert onnx is not None
    file = io.BytesIO()
    onnx.save(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", SAMPLE)
def test_families_export_and_run(name: str) -> None:
    check(operation(name), *STRIDED)


@pytest.mark.parametrize(
    ("name", "border"),
    [("vit_d1_w32_h4", TOKENS), ("cb_stack_1x1_ex0.5", TOKENS), ("efn_3x3_e1_se1.00", CHANNELS_LAST)],
)
def test_other_layouts_export_and_run(name: str, border: tuple[TensorSpec, TensorSpec]) -> None:
    check(operation(name), *border)


@pytest.mark.slow
@pytest.mark.parametrize("spec", POOL, ids=str)
@pytest.mark.parametrize("border", [SAME, STRIDED], ids=["same", "strided"])
def test_every_operation_exports_and_runs(spec: OpSpec, border: tuple[TensorSpec, TensorSpec]) -> None:
    if spec.unfit(*border) is not None:
        assert spec.name == "identity"
        return
    check(spec, *border)


@pytest.mark.parametrize("name", SAMPLE)
def test_no_autograd_function_of_hants_own(name: str) -> None:
    """Backward passes are torch's, so that every exporter and compiler knows them."""
    output = operation(name).build(*SAME)(SAME[0].random(1))
    seen, nodes = set(), [output.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        assert not isinstance(node, torch.autograd.function.BackwardCFunction)
        nodes += [parent for parent, _ in node.next_functions]
