"""What TensorRT targets ask for, and whether this machine has it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hant.backends.targets.load import load_target
from hant.backends.tensorrt import caches, support
from hant.backends.tensorrt.options import read_options
from hant.transformer.contracts.target import Target
from hant.transformer.errors import UsageError


def target(precision: str = "fp16", **options: Any) -> Target:
    return Target(name="t", backend="tensorrt", device="cuda", precision=precision, options=options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flavor": "tensorrt"}, "target 't': unknown option 'flavor'; did you mean 'flavour'"),
        ({"flavour": "rtx"}, "unknown flavour 'rtx'; .*known: tensorrt, tensorrt-rtx"),
        ({"optimization_level": 6}, "optimization_level is 6; expected 0 to 5"),
        ({"compute_capabilities": [8.6]}, r"compute_capabilities is \(8\.6,\); expected \[\"8\.6\", \.\.\.\]"),
        ({"max_version": "10"}, "max_version is '10'; expected such as \"10.4\""),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_options(target(**options))
    assert (support.why_not(target(**options)) or "").startswith("target 't': ")


def test_a_precision_that_it_does_not_have() -> None:
    with pytest.raises(UsageError, match="target 't': unknown precision 'fp61'; did you mean 'fp16'"):
        read_options(target(precision="fp61"))


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_a_missing_package_is_named_with_the_command() -> None:
    assert support.why_not(load_target("t4-trt")) == (
        "this target needs tensorrt, which is not installed; run: pip install 'hant[tensorrt]'"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_engines_are_built_but_not_run() -> None:
    pytest.importorskip("tensorrt_rtx")
    ahead = target(flavour="tensorrt-rtx", compute_capabilities=["8.6"])
    assert support.cannot_build(ahead) is None
    assert support.why_not(ahead) == "there is no NVIDIA GPU here; engines are built, not run"
    assert support.cannot_build(target(flavour="tensorrt-rtx")) == (
        "there is no NVIDIA GPU here, and TensorRT builds engines on their GPU"
    )


def test_a_device_that_newer_versions_left_behind() -> None:
    pytest.importorskip("tensorrt_rtx")
    major, minor = support.version("tensorrt-rtx")
    assert support.cannot_build(target(flavour="tensorrt-rtx", max_version="0.9")) == (
        f"the device needs tensorrt-rtx 0.9 or older, and {major}.{minor} is installed; run: "
        "pip install 'tensorrt-rtx<0.10'"
    )
    same = target(flavour="tensorrt-rtx", max_version=f"{major}.{minor}", compute_capabilities=["8.6"])
    assert support.cannot_build(same) is None


def test_caches_are_the_users_and_of_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = caches.cache_file("tensorrt-rtx", "runtime")
    assert path.parent == tmp_path / "hant"
    assert path.name.startswith("tensorrt-rtx-{}.{}.".format(*support.version("tensorrt-rtx")))
    assert caches.read(path) == b""
    caches.keep(path, b"kernels")
    assert caches.read(path) == b"kernels"


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    caches.keep(tmp_path / "file" / "cache", b"kernels")
    assert caches.read(tmp_path / "file" / "cache") == b""
