"""TensorRT, the vendor's or TensorRT for RTX.

The lowered file is the prepared ONNX graph; the engine is made from it where it runs. An engine fits one device and one
version, and opening one runs what is in it: a graph is safe to take from elsewhere and good for every device.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...transformer.contracts.backend import Estimator, KitPart, Runner
from ...transformer.contracts.target import Target
from ...transformer.contracts.timing import Timing
from ...transformer.errors import CaptureError, LoadError
from ..cost_model.estimate import estimator
from ..measuring import interval, rounds
from ..measuring.cuda import DeviceClock, side_stream
from ..measuring.stopwatch import interleave
from ..onnx.backend import OnnxBackend
from ..onnx.export import write_graph
from ..options import asked
from . import cudart, on_device, support
from .build import build_engine
from .options import Options, read_options
from .prepare import prepare, quantize, to_half
from .run import TensorRTRunner


class TensorRTBackend(OnnxBackend):
    """Lowers to a prepared ONNX graph, which the builder has accepted if it works here; runs on the GPU."""

    name: ClassVar[str] = "tensorrt"

    def __init__(self) -> None:
        self._engines: dict[str, bytes] = {}

    def unavailable(self, target: Target) -> str | None:
        """Return why ``target`` cannot be run on this machine; None if it can."""
        return support.why_not(target)

    def finish(self, graph: onnx.ModelProto, inputs: Sequence[Tensor], target: Target, path: Path) -> None:
        """Prepare a graph, have an engine built where that is possible, and write it; INT8 is calibrated on ``inputs``.

        Raises:
            CaptureError: the parser or the builder refuses it, with its words.
        """
        model = prepare(graph)
        if target.precision == "int8":
            model = quantize(model, [tensor.detach().cpu().numpy() for tensor in inputs])
        if support.cannot_build(target) is None:
            engine = build_engine(model, target)
            if support.why_not(target) is None:
                self._engines[_digest(model.SerializeToString(), target)] = engine
        write_graph(model, path)

    def load(self, path: Path, target: Target) -> Runner:
        """Open a lowered file; its engine is built unless this process has just built it."""
        if not path.is_file():
            raise LoadError(f"no ONNX file at {path}; run the export first")
        content = path.read_bytes()
        engine = self._engines.pop(_digest(content, target), None)
        if engine is None:
            engine = _rebuild(content, target, path)
        return TensorRTRunner(engine, target)

    def time(
        self, runners: Sequence[Runner], inputs: Sequence[Sequence[NDArray[np.generic]]], target: Target
    ) -> tuple[Timing, ...]:
        """Time the runners interleaved by the device's clock; the first is the reference."""
        with torch.cuda.stream(side_stream()):
            calls = [runner.prepare(*args) for runner, args in zip(runners, inputs, strict=True)]
            return interleave(calls, target.protocol, clock=DeviceClock())

    def kit(self, target: Target) -> KitPart:
        """Return what a kit for ``target`` needs; its share of the script uses no PyTorch."""
        options = read_options(target)
        module = options.flavour.replace("-", "_")
        return KitPart(
            sources=tuple(inspect.getsource(source) for source in (interval, rounds, cudart, on_device)),
            needs={"numpy": "numpy", module: _requirement(options)},
            settings={
                **asdict(options),
                "precision": target.precision,
                "device_name": str(target.facts.get("device_name", "")),
            },
            asked=asked(target),
        )

    def for_device(self, graph: onnx.ModelProto, target: Target) -> onnx.ModelProto:
        """Return the graph with its precision inside, where that is not a flag of the builder."""
        inside = read_options(target).flavour == "tensorrt-rtx" and target.precision != "fp32"
        return to_half(graph) if inside else graph

    def estimator(self, target: Target) -> Estimator:
        """Return what estimates latencies of an absent GPU."""
        return estimator(target, "tensorrt")

    def provenance(self, target: Target) -> dict[str, str]:
        """Return device, driver and versions that a latency depends on."""
        return support.provenance(target)


def _rebuild(content: bytes, target: Target, path: Path) -> bytes:
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's error has no public class
        raise LoadError(f"{path} holds no ONNX graph: {error}; export it again") from error
    try:
        return build_engine(model, target)
    except CaptureError as error:
        raise LoadError(f"cannot build an engine from {path}: {error}; export it again") from error


def _requirement(options: Options) -> str:
    """Return what installs the package that the target needs."""
    if not options.max_version:
        return options.flavour
    major, minor = options.max_version.split(".")
    return f"{options.flavour}<{major}.{int(minor) + 1}"


def _digest(content: bytes, target: Target) -> str:
    return hashlib.sha256(content).hexdigest() + target.fingerprint
