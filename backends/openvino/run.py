"""Run a lowered file on the processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...transformer.contracts.backend import Runner
from ...transformer.contracts.target import Target
from ...transformer.errors import LoadError, UsageError
from . import support


class OpenVinoRunner(Runner):
    """One compiled network with one inference request. Inputs are given in the order of the graph's inputs."""

    def __init__(self, path: Path, target: Target) -> None:
        """Compile ``path``.

        Raises:
            LoadError: missing, or not a graph that OpenVINO can run.
        """
        if not path.is_file():
            raise LoadError(f"no ONNX file at {path}; run the export first")
        properties = support.properties(target)
        try:
            model = support.core().read_model(path.read_bytes())
            compiled = support.core().compile_model(model, "CPU", properties)
        except RuntimeError as error:
            raise LoadError(f"openvino cannot open {path}: {_reason(error)}; export it again") from error
        self._count = len(compiled.inputs)
        self._request = compiled.create_infer_request()
        self._held: list[NDArray[np.generic]] = []

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.generic], ...]:
        """Run once."""
        self._place(inputs)
        return tuple(np.array(array) for array in self._request.infer().values())

    def prepare(self, *inputs: NDArray[np.generic]) -> Callable[[], object]:
        """Hand over the inputs' memory and return the bare call; it is good until the runner gets other inputs."""
        self._place(inputs)
        infer = self._request.infer
        return lambda: infer()

    def _place(self, inputs: tuple[NDArray[np.generic], ...]) -> None:
        if len(inputs) != self._count:
            raise UsageError(f"the network takes {self._count} inputs, but got {len(inputs)}")
        tensor = support.api().Tensor
        self._held = [np.ascontiguousarray(array) for array in inputs]  # the request knows their addresses only
        for index, array in enumerate(self._held):
            self._request.set_input_tensor(index, tensor(array, shared_memory=True))


def _reason(error: Exception) -> str:
    """Return the innermost cause: OpenVINO gives one line a level, the cause last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
