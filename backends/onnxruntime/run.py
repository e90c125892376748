"""Run a lowered file in an ONNX Runtime session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...transformer.contracts.backend import Runner
from ...transformer.contracts.target import Target
from ...transformer.errors import LoadError, UsageError
from . import support
from .session import Session


class OnnxRuntimeRunner(Runner):
    """One session. Inputs are given in the order of the graph's inputs."""

    def __init__(self, path: Path, target: Target) -> None:
        """Open ``path``.

        Raises:
            LoadError: missing, or not a graph that ONNX Runtime can run.
        """
        if not path.is_file():
            raise LoadError(f"no ONNX file at {path}; run the export first")
        options, provider = support.session_options(target), support.provider(target)
        try:
            self._session = Session(str(path), options, provider)
        except Exception as error:  # ONNX Runtime raises classes of its own that share no base below Exception
            reason = str(error).splitlines()[0]
            raise LoadError(f"onnxruntime cannot open {path}: {reason}; export it again") from error

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.generic], ...]:
        """Run once."""
        self._check(inputs)
        return self._session.run(*inputs)

    def prepare(self, *inputs: NDArray[np.generic]) -> Callable[[], object]:
        """Bind inputs and outputs to memory of the device and return the bare call."""
        self._check(inputs)
        return self._session.prepare(*inputs)

    def _check(self, inputs: tuple[NDArray[np.generic], ...]) -> None:
        if len(inputs) != len(self._session.inputs):
            raise UsageError(f"the network takes {len(self._session.inputs)} inputs, but got {len(inputs)}")
