"""Run an engine on the GPU; PyTorch holds its memory and streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...transformer.contracts.backend import Runner
from ...transformer.contracts.target import Target
from ...transformer.errors import LoadError, UsageError
from ..measuring.cuda import captured
from . import caches, support
from .build import LARGEST_BATCH, listener, words
from .options import Options, read_options


class TensorRTRunner(Runner):
    """One engine with one execution context. Takes and returns what the graph does; precisions are inside."""

    def __init__(self, engine: bytes, target: Target) -> None:
        """Open an engine that ``build_engine`` made on this machine.

        Raises:
            LoadError: TensorRT refuses it, with its words.
        """
        options = read_options(target)
        trt, log = support.api(options.flavour), listener(options.flavour)
        log.heard.clear()
        self._runtime = trt.Runtime(log)
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise LoadError(f"{options.flavour} cannot open the engine of {target.name}: {words(options.flavour)}")
        self._options, self._target = options, target
        self._context, self._cache = _context(self._engine, trt, options)
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        kinds = {name: self._engine.get_tensor_mode(name) for name in names}
        self._inputs = [name for name in names if kinds[name] == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if kinds[name] == trt.TensorIOMode.OUTPUT]
        self._types = {name: np.dtype(trt.nptype(self._engine.get_tensor_dtype(name))) for name in self._outputs}

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.generic], ...]:
        """Run once; more samples than an engine takes at once are run in pieces."""
        self._check(inputs)
        largest = max(LARGEST_BATCH, self._target.batch_size)
        pieces = range(0, len(inputs[0]), largest)
        made = [self._once([array[start : start + largest] for array in inputs]) for start in pieces]
        return tuple(np.concatenate(parts) for parts in zip(*made, strict=True))

    def prepare(self, *inputs: NDArray[np.generic]) -> Callable[[], object]:
        """Place the inputs on the GPU and return a call that enqueues one run on the current stream.

        The call is good until the runner is called or prepared again.
        """
        self._check(inputs)
        self._bind(inputs)
        if self._options.cuda_graph and self._options.flavour == "tensorrt":
            return captured(self._enqueue)
        return self._enqueue

    def _once(self, inputs: list[NDArray[np.generic]]) -> tuple[NDArray[np.generic], ...]:
        outputs = self._bind(inputs)
        self._enqueue()
        torch.cuda.synchronize()
        self._keep_kernels()
        return tuple(tensor.cpu().numpy() for tensor in outputs)

    def _bind(self, inputs: Sequence[NDArray[np.generic]]) -> list[Tensor]:
        """Place inputs and room for outputs on the GPU; return the outputs."""
        placed = [torch.from_numpy(np.ascontiguousarray(array)).cuda() for array in inputs]
        for name, tensor in zip(self._inputs, placed, strict=True):
            self._context.set_input_shape(name, tuple(tensor.shape))
            self._context.set_tensor_address(name, tensor.data_ptr())
        made = []
        for name in self._outputs:
            shape = tuple(self._context.get_tensor_shape(name))
            made.append(torch.from_numpy(np.empty(shape, self._types[name])).cuda())
            self._context.set_tensor_address(name, made[-1].data_ptr())
        self._bound = (placed, made)  # the context knows their addresses only
        return made

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise UsageError(f"{self._options.flavour} cannot run {self._target.name}: {words(self._options.flavour)}")

    def _keep_kernels(self) -> None:
        """Keep what TensorRT-RTX compiled in its first run for the next process."""
        if self._cache is not None:
            caches.keep(caches.cache_file(self._options.flavour, "runtime"), bytes(self._cache.serialize()))
            self._cache = None

    def _check(self, inputs: tuple[NDArray[np.generic], ...]) -> None:
        if len(inputs) != len(self._inputs):
            raise UsageError(f"the network takes {len(self._inputs)} inputs, but got {len(inputs)}")


def _context(engine: Any, trt: Any, options: Options) -> tuple[Any, Any]:
    """Return an execution context, and for TensorRT-RTX the cache of the kernels that it compiles at first."""
    if options.flavour == "tensorrt":
        return engine.create_execution_context(), None
    config = engine.create_runtime_config()
    cache = config.create_runtime_cache()
    known = caches.read(caches.cache_file(options.flavour, "runtime"))
    if known:
        cache.deserialize(known)
    config.set_runtime_cache(cache)
    if options.cuda_graph:
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    return engine.create_execution_context(config), cache
