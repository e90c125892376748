"""A kit's share of TensorRT: engines are built for a GPU that is not there. Running them needs one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hant.backends.targets.load import load_target
from hant.backends.tensorrt.backend import TensorRTBackend
from hant.backends.tensorrt.on_device import Device
from torch import nn


def test_the_script_builds_an_engine_of_what_a_kit_holds(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    target = load_target("rtx4090-trtrtx")
    backend, path = TensorRTBackend(), tmp_path / "network.lowered"
    backend.lower(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), (torch.zeros(1, 3, 8, 8),), target, path)
    device = Device(backend.kit(target).settings)
    assert len(device.build(backend.packed(path, target))) > 1000
    with pytest.raises(RuntimeError, match="cannot read the graph: "):
        device.build(b"no network")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_script_says_what_is_missing() -> None:
    pytest.importorskip("tensorrt_rtx")
    problem = Device(TensorRTBackend().kit(load_target("rtx4090-trtrtx")).settings).problem()
    assert problem is not None
    assert "cuda" in problem.lower()
    assert "\n" not in problem
