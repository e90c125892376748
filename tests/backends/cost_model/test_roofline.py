"""What must hold of an estimate whatever the constants are, and what comes with hant."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hant.backends.cost_model.constants import Constants, constants
from hant.backends.cost_model.device import Device, device_of
from hant.backends.cost_model.estimate import estimator
from hant.backends.cost_model.kernel import Kernel, Kind
from hant.backends.cost_model.roofline import columns, network_ms
from hant.backends.pytorch.backend import PyTorchBackend
from hant.backends.targets.load import list_targets, load_target
from hant.transformer.contracts.target import Target
from hant.transformer.errors import UsageError
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

V100 = load_target("v100-torch")
CONSTANTS = [constants("pytorch"), constants("tensorrt")]
sizes = st.integers(1, 2000)
kernel = st.builds(
    Kernel,
    name=st.just("kernel"),
    kind=st.sampled_from(list(Kind)),
    read=sizes,
    written=sizes,
    weights=sizes,
    rows=sizes,
    columns=sizes,
    depth=sizes,
    groups=st.integers(1, 64),
)


def ms(kernels: list[Kernel], device: Device, fitted: Constants) -> float:
    return network_ms(columns(kernels), device, fitted)


@given(kernel, st.sampled_from(["read", "written", "weights", "rows", "columns", "depth", "groups"]), sizes)
def test_more_work_is_never_faster(one: Kernel, field: str, more: int) -> None:
    device, larger = device_of(V100), replace(one, **{field: getattr(one, field) + more})
    for fitted in CONSTANTS:
        assert ms([one], device, fitted) <= ms([larger], device, fitted)


@given(st.lists(kernel, max_size=5), st.integers(1, 64))
def test_a_batch_takes_no_less_than_an_image_and_no_more_than_one_by_one(kernels: list[Kernel], batch: int) -> None:
    device = device_of(V100)
    for fitted in CONSTANTS:
        one, many = ms(kernels, device, fitted), ms([k.scaled(batch) for k in kernels], device, fitted)
        assert one <= many <= batch * one * (1 + 1e-9)


@given(st.lists(kernel, max_size=5))
def test_half_precision_is_never_slower(kernels: list[Kernel]) -> None:
    half, full = (device_of(V100.model_copy(update={"precision": name})) for name in ("fp16", "fp32"))
    aligned = [replace(k, depth=8 * k.depth) for k in kernels]  # matrix units take eight values at a time
    for fitted in CONSTANTS:
        assert ms(aligned, half, fitted) <= ms(aligned, full, fitted)


@given(st.lists(kernel, min_size=1, max_size=5))
def test_another_kernel_is_never_free(kernels: list[Kernel]) -> None:
    device = device_of(V100)
    for fitted in CONSTANTS:
        assert ms(kernels[:-1], device, fitted) < ms(kernels, device, fitted)


def test_tiny_kernels_wait_for_the_host() -> None:
    tiny = Kernel("relu", Kind.MOVE, read=1, written=1)
    fitted = constants("pytorch").model_copy(update={"issue_us": 50.0, "kernel_us": 2.0})
    assert ms([tiny] * 100, device_of(V100), fitted) == pytest.approx(100 * 0.05 + 0.002, rel=1e-3)


def test_long_kernels_do_not() -> None:
    large = Kernel("relu", Kind.MOVE, read=10**9, written=10**9)
    device, fitted = device_of(V100), constants("pytorch")
    without = fitted.model_copy(update={"issue_us": 0.0})
    assert ms([large] * 10, device, fitted) == pytest.approx(ms([large] * 10, device, without), rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"facts": {}}, "target v100-torch: fact bandwidth_gb_s is missing; give a number above zero under"),
        ({"facts": V100.facts | {"processors": "many"}}, "fact processors is 'many'"),
        ({"device": "cpu"}, "there are estimates for GPUs only, and its device is cpu"),
        ({"precision": "fp64"}, "no estimate for fp64; there is for fp32, fp16, bf16, int8"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        device_of(V100.model_copy(update=changes))


def test_only_eager_mode_is_estimated() -> None:
    compiled = V100.model_copy(update={"options": {"mode": "compile"}})
    with pytest.raises(UsageError, match="target v100-torch: there are estimates for mode 'eager' only"):
        PyTorchBackend().estimator(compiled)


@pytest.mark.parametrize("target", [t for t in list_targets() if "processors" in t.facts], ids=lambda t: t.name)
def test_every_gpu_with_facts_has_estimates(target: Target) -> None:
    runtime = "pytorch" if target.backend == "pytorch" else "tensorrt"
    found = estimator(target, runtime)  # type: ignore[arg-type]
    assert found.ms(nn.Conv2d(3, 8, 3), [torch.zeros(1, 3, 8, 8)]) > 0
    assert found.provenance["device"].endswith(", absent")
    assert found.error < 0.25


def test_a_published_latency_is_met() -> None:
    """ResNet-18 on V100, FP16, PyTorch, batch 64: 8.3 ms (GENet table 7)."""
    timm = pytest.importorskip("timm")
    found = estimator(V100, "pytorch").ms(timm.create_model("resnet18"), [torch.zeros(64, 3, 224, 224)])
    assert found == pytest.approx(8.3, rel=0.25)
