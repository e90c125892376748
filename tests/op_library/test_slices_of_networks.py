"""Slices of real networks: how many blocks have some, and what comes out runs, saves and exports."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import hant
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hant.op_library.pools import operation
from hant.op_library.slicing import in_order, sliceable_channels
from hant.passes.candidates.build import build_candidate
from hant.transformer.errors import UnfitError
from hant.transformer.ir.graph import Graph
from torch import nn

ROOT = Path(__file__).parents[2]
WIDTH = {
    "resnet18": (8, 8),
    "resnet50": (16, 16),
    "mobilenetv2_100": (16, 17),
    "mobilenetv3_small_100": (10, 11),
    "efficientnet_b0": (15, 16),
    "tf_efficientnetv2_b0": (16, 20),
    "convnext_atto": (12, 15),
    "vit_tiny_patch16_224": (12, 12),
    "densenet121": (58, 61),
    "regnetx_002": (0, 13),
    "regnety_002": (0, 13),
    "ghostnet_100": (0, 16),
    "repvgg_a0": (0, 22),
}
"""Blocks with inner channels to take away, at least, of how many."""
KERNELS = {"mobilenetv3_small_100": 8, "efficientnet_b0": 9, "convnext_atto": 12}
"""Blocks with kernels above 3."""
QUICK = ("resnet18", "mobilenetv3_small_100")


def sliced(graph: Graph, name: str) -> dict[str, nn.Module]:
    """The blocks that the operation fits, with its modules."""
    found = {}
    for block in graph.replaceable:
        with suppress(UnfitError):
            found[block.name] = build_candidate(block, operation(name), 0)
    return found


def digits() -> Graph:
    return hant.trace(hant.load(ROOT / "examples" / "digits" / "teacher.pt").eval(), torch.zeros(2, 1, 8, 8))


def check(name: str) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model(name, pretrained=False).eval()
    graph = hant.trace(
        network, torch.zeros(2, 3, 64, 64) if name != "vit_tiny_patch16_224" else torch.zeros(2, 3, 224, 224)
    )
    narrow, least = sliced(graph, "slice_w0.5"), WIDTH[name][0]
    assert len(narrow) >= least, f"{len(narrow)} of {len(graph.replaceable)}"
    assert len(sliced(graph, "slice_k3")) >= KERNELS.get(name, 0)
    for block in graph.replaceable:
        x = block.input.random(2, torch.Generator().manual_seed(0))
        if block.name in narrow:
            ordered = in_order(block.module, sliceable_channels(block.module, block.input))
            with torch.no_grad():
                torch.testing.assert_close(ordered.eval()(x), block.module(x), rtol=1e-4, atol=1e-4)
                assert narrow[block.name].eval()(x).shape == (len(x), *block.output.shape)


@pytest.mark.parametrize("name", QUICK)
def test_inner_channels_of_timm_networks(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(WIDTH) - set(QUICK)))
def test_inner_channels_of_all_networks(name: str) -> None:
    check(name)


def test_a_student_of_slices_saves_loads_and_runs_in_onnx_runtime(tmp_path: Path) -> None:
    teacher = digits()
    modules = sliced(teacher, "slice_w0.5")
    assert modules
    student = teacher.replace(modules).network.eval()
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = student(x)
    hant.save(student, tmp_path / "student.pt", x)
    with torch.no_grad():
        torch.testing.assert_close(hant.load(tmp_path / "student.pt").eval()(x), expected, rtol=0, atol=1e-6)
    program = torch.onnx.export(student, (x,), dynamo=True, verbose=False)
    assert program is not None
    file = io.BytesIO()
    onnx.save(program.model_proto, file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    got = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    assert float(np.abs(got - expected.numpy()).max()) <= 1e-4
