"""Run a lowered file on the processor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...transformer.contracts.backend import Runner
from ...transformer.contracts.target import Target
from ...transformer.errors import LoadError, UsageError
from . import support


class OpenVinoRunner(Runner):
    """One compiled network. Inputs are given in the order of the graph's inputs."""

    def __init__(self, path: Path, target: Target) -> None:
        """Compile ``path``.

        Raises:
            LoadError: missing, or not a graph that OpenVINO can run.
        """
        if not path.is_file():
            raise LoadError(f"no ONNX file at {path}; run the export first")
        self._properties = support.properties(target)
        try:
            self._model = support.core().read_model(path.read_bytes())
            self._compiled = self._compile(self._model)
        except RuntimeError as error:
            raise LoadError(f"openvino cannot open {path}: {_reason(error)}; export it again") from error
        self._request = self._compiled.create_infer_request()

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.generic], ...]:
        """Run once."""
        self._check(inputs)
        _held = _place(self._request, inputs)
        return tuple(np.array(array) for array in self._request.infer().values())

    def prepare(self, *inputs: NDArray[np.generic]) -> Callable[[], object]:
        """Hand over the inputs' memory and return the bare call.

        A network for any batch is compiled for this one, as one would to deploy it: dynamic shapes cost time.
        """
        self._check(inputs)
        compiled = self._compiled
        if self._model.is_dynamic():
            fixed = self._model.clone()
            fixed.reshape({index: list(array.shape) for index, array in enumerate(inputs)})
            compiled = self._compile(fixed)
        request = compiled.create_infer_request()
        held = _place(request, inputs)

        def call(infer: Callable[[], object] = request.infer, _held: object = held) -> object:
            return infer()

        return call

    def _compile(self, model: Any) -> Any:
        return support.core().compile_model(model, "CPU", self._properties)

    def _check(self, inputs: tuple[NDArray[np.generic], ...]) -> None:
        if len(inputs) != len(self._model.inputs):
            raise UsageError(f"the network takes {len(self._model.inputs)} inputs, but got {len(inputs)}")


def _place(request: Any, inputs: tuple[NDArray[np.generic], ...]) -> list[NDArray[np.generic]]:
    """Give the request its inputs; return what must live as long as it uses them: it knows their addresses only."""
    held = [np.ascontiguousarray(array) for array in inputs]
    for index, array in enumerate(held):
        request.set_input_tensor(index, support.api().Tensor(array, shared_memory=True))
    return held


def _reason(error: Exception) -> str:
    """Return the innermost cause: OpenVINO gives one line a level, the cause last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
