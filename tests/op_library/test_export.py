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
from hant.op_library.tensor_spec import Layout, TensorSpec
from hant.transformer.rewrite.deploy import deploy
from torch import Tensor, nn

FAMILIES = sorted({spec.family for spec in hant.pool("hant-197")} - {"teacher", "identity"})
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


class Side(nn.Module):
    """Operations on one input, exported together: one export costs little more than that of one."""

    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        self.operations = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(operation(x) for operation in self.operations)


def check(specs: list[OpSpec], input: TensorSpec, output: TensorSpec) -> None:
    modules = [spec.build(input, output) for spec in specs]
    with torch.no_grad():
        for module in modules:
            # statistics of a batch norm that was trained
            module(input.random(8))
    side = Side([deploy(module) for module in modules]).eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(side, (input.random(2),), dynamic_shapes=({0: batch},))
    session = lower(program)
    for rows in (1, 2, 5):
        x = input.random(rows)
        with torch.no_grad():
            expected = side(x)
            again = program.module()(x)
        got = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        for spec, ours, captured, lowered in zip(specs, expected, again, got, strict=True):
            assert lowered.shape == (rows, *output.shape)
            torch.testing.assert_close(captured, ours, rtol=1e-5, atol=1e-5)
            difference = float(np.abs(lowered - ours.numpy()).max())
            assert difference <= 1e-4, f"{spec} differs by {difference:.1e} in ONNX Runtime"


def lower(program: torch.export.ExportedProgram) -> onnxruntime.InferenceSession:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    onnx = torch.onnx.export(program, dynamo=True, verbose=False)
    assert onnx is not None
    file = io.BytesIO()
    onnx.save(file)  # type: ignore[arg-type]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])


def test_one_of_each_family_exports_and_runs() -> None:
    check([operation(name) for name in SAMPLE], *STRIDED)


@pytest.mark.parametrize(
    ("names", "border"),
    [(("vit_d1_w32_h4", "cb_stack_1x1_ex0.5"), TOKENS), (("efn_3x3_e1_se1.00", "vit_d1_w32_h4"), CHANNELS_LAST)],
)
def test_other_layouts_export_and_run(names: tuple[str, ...], border: tuple[TensorSpec, TensorSpec]) -> None:
    check([operation(name) for name in names], *border)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("border", [SAME, STRIDED], ids=["same", "strided"])
def test_every_operation_exports_and_runs(family: str, border: tuple[TensorSpec, TensorSpec]) -> None:
    specs = [spec for spec in hant.pool("hant-197") if spec.family == family]
    check(specs, *border)


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
