"""An ONNX Runtime session as targets ask for it, and what its latencies depend on.

Needs Python, numpy and onnxruntime only: a kit takes this file to the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..measuring.machine import host, processor

LEVELS = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_QUIET = 3  # errors and worse
_OLDEST = (1, 17)  # reads opset 20


def session_options(threads: int, level: str) -> ort.SessionOptions:
    """Return options for ``threads`` threads within an operator and a level of ``LEVELS``."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = LEVELS[level]
    options.log_severity_level = _QUIET
    return options


def environment(provider: str) -> dict[str, str]:
    """Return what a latency on this machine depends on."""
    return {
        "device": processor(),
        **host(),
        "runtime": f"onnxruntime {ort.__version__}",
        "provider": provider,
    }


def missing(provider: str) -> str | None:
    """Return why ONNX Runtime here cannot use a provider; None if it can."""
    if provider in ort.get_available_providers():
        return None
    return f"onnxruntime {ort.__version__} here has no {provider}; install the build of onnxruntime that has it"


class Session:
    """One network. Inputs are given in the order of the graph's inputs."""

    def __init__(self, model: str | bytes, options: ort.SessionOptions, provider: str) -> None:
        """Open a file by its path, or its content."""
        self._session = ort.InferenceSession(model, options, providers=[provider])
        self.inputs = [item.name for item in self._session.get_inputs()]
        self._outputs = [item.name for item in self._session.get_outputs()]
        self._device = "cpu" if provider == "CPUExecutionProvider" else "cuda"

    def run(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.generic], ...]:
        """Run once."""
        outputs = self._session.run(self._outputs, dict(zip(self.inputs, inputs, strict=True)))
        return tuple(outputs)  # pyright: ignore[reportReturnType]: tensors, not sequences or maps

    def prepare(self, *inputs: NDArray[np.generic]) -> Callable[[], object]:
        """Bind inputs and outputs to memory of the device and return the bare call."""
        binding = self._session.io_binding()
        for name, array in zip(self.inputs, inputs, strict=True):
            value = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._device, 0)
            binding.bind_ortvalue_input(name, value)
        shapes = [output.shape for output in self.run(*inputs)]
        for name, shape, kind in zip(self._outputs, shapes, self._session.get_outputs(), strict=True):
            value = ort.OrtValue.ortvalue_from_shape_and_type(list(shape), _numpy_type(kind.type), self._device, 0)
            binding.bind_ortvalue_output(name, value)
        run = self._session.run_with_iobinding
        return lambda: run(binding)


class Device:
    """What a kit measures with: ONNX Runtime on this machine."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Take ``provider``, ``threads`` and ``graph_optimization``, as the target has them."""
        self._settings = settings

    def problem(self) -> str | None:
        """Return why nothing can be measured here; None if it can."""
        version = tuple(int(part) for part in ort.__version__.split(".")[:2])
        if version < _OLDEST:
            return f"onnxruntime {ort.__version__} is too old; run: pip install 'onnxruntime>=1.17'"
        return missing(self._settings["provider"])

    def facts(self) -> dict[str, str]:
        """Return what a latency measured here depends on."""
        return environment(self._settings["provider"])

    def clock(self) -> Callable[[], float]:
        """Return a clock in seconds."""
        return time.perf_counter

    def open(self, content: bytes, *inputs: NDArray[np.generic]) -> Callable[[], object]:
        """Return a call that runs the network of an ONNX file once on ``inputs`` and does nothing else."""
        options = session_options(self._settings["threads"], self._settings["graph_optimization"])
        return Session(content, options, self._settings["provider"]).prepare(*inputs)


def _numpy_type(name: str) -> type[np.generic]:
    """Return the array type of an ONNX Runtime type name such as ``tensor(float)``."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    known: dict[str, type[np.generic]] = {"float": np.float32, "double": np.float64, "bool": np.bool_}
    return known.get(inner) or np.dtype(inner).type
