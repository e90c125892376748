"""Run a lowered file in an ONNX Runtime session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ...transformer.contracts.backend import Runner
from ...transformer.contracts.target import Target
from ...transformer.errors import LoadError, UsageError
from . import support


class OnnxRuntimeRunner(Runner):
    """One session. Inputs are given in the order of the graph's inputs."""

    def __init__(self, path: Path, target: Target) -> None:
        """Open ``path``.

        Raises:
            LoadError: missing, or not a graph that ONNX Runtime can run.
        """
        if not path.is_file():
            raise LoadError(f"no ONNX file at {path}; run the export first")
        try:
            self._session = ort.InferenceSession(
                str(path), support.session_options(target), providers=[support.provider(target)]
            )
        except Exception as error:  # ONNX Runtime raises classes of its own that share no base below Exception
            reason = str(error).splitlines()[0]
            raise LoadError(f"onnxruntime cannot open {path}: {reason}; export it again") from error
        self._inputs = [item.name for item in self._session.get_inputs()]
        self._outputs = [item.name for item in self._session.get_outputs()]
        self._device = "cpu" if support.provider(target) == "CPUExecutionProvider" else "cuda"

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.generic], ...]:
        """Run once."""
        self._check(inputs)
        return tuple(self._session.run(self._outputs, dict(zip(self._inputs, inputs, strict=True))))

    def prepare(self, *inputs: NDArray[np.generic]) -> Callable[[], object]:
        """Bind inputs and outputs to memory of the device and return the bare call."""
        self._check(inputs)
        binding = self._session.io_binding()
        for name, array in zip(self._inputs, inputs, strict=True):
            value = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._device, 0)
            binding.bind_ortvalue_input(name, value)
        shapes = [output.shape for output in self(*inputs)]
        for name, shape, kind in zip(self._outputs, shapes, self._session.get_outputs(), strict=True):
            value = ort.OrtValue.ortvalue_from_shape_and_type(list(shape), _numpy_type(kind.type), self._device, 0)
            binding.bind_ortvalue_output(name, value)
        run, session = self._session.run_with_iobinding, binding
        return lambda: run(session)

    def _check(self, inputs: tuple[NDArray[np.generic], ...]) -> None:
        if len(inputs) != len(self._inputs):
            raise UsageError(f"the network takes {len(self._inputs)} inputs, but got {len(inputs)}")


def _numpy_type(name: str) -> type[np.generic]:
    """Return the array type of an ONNX Runtime type name such as ``tensor(float)``."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    known: dict[str, type[np.generic]] = {"float": np.float32, "double": np.float64, "bool": np.bool_}
    return known.get(inner) or np.dtype(inner).type
