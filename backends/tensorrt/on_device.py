"""TensorRT on a device that has no PyTorch: what ``build.py`` and ``run.py`` do, for a kit.

Needs Python, numpy, tensorrt or tensorrt_rtx, and the CUDA runtime library: a kit takes this file to the device.
Building was tried with TensorRT-RTX on a machine without a GPU; running and timing have never run on a GPU.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cudart import Cuda, CudaError


class Device:
    """What a kit measures with: one NVIDIA GPU and a flavour of TensorRT."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Take the target's precision, ``device_name`` and options."""
        self._settings = settings
        self._trt = _package(self._is_rtx)
        self._log = self._trt.Logger(self._trt.Logger.ERROR)
        self._opened: Cuda | None = None

    def problem(self) -> str | None:
        """Return why nothing can be measured here; None if it can."""
        wanted, version, most = self._settings["device_name"], self._version, self._settings["max_version"]
        if most and version > tuple(int(part) for part in most.split(".")):
            return f"the device needs tensorrt {most} or older, and {self._trt.__version__} is installed"
        if not self._is_rtx and version >= (11, 0) and self._settings["precision"] != "fp32":
            return "the kit's precision is a flag of the builder, which TensorRT 11 no longer has; install an older one"
        try:
            cuda = self._cuda
        except CudaError as error:
            return str(error)
        if wanted not in cuda.name:
            return f"the device here is {cuda.name}, not {wanted}"
        built = self._settings["compute_capabilities"]
        if built and cuda.capability not in built:
            return f"the device here has compute capability {cuda.capability}; the kit is for {', '.join(built)}"
        return None

    def facts(self) -> dict[str, str]:
        """Return what a latency measured here depends on."""
        return {
            "device": self._cuda.name,
            "system": platform.system(),
            "runtime": f"{self._settings['flavour']} {self._trt.__version__}",
            "cuda": self._cuda.version("Runtime"),
            "driver": self._cuda.version("Driver"),
        }

    def clock(self) -> Callable[[], float]:
        """Return the stream's clock in seconds."""
        return self._cuda.clock()

    def open(self, content: bytes, *inputs: NDArray[np.generic]) -> Callable[[], object]:
        """Return a call that enqueues one run of the network of an ONNX file on ``inputs``."""
        runtime = self._trt.Runtime(self._log)
        engine = runtime.deserialize_cuda_engine(self.build(content))
        network = _Network(self._cuda, runtime, engine, self._context(engine))
        network.bind(self._trt, inputs)
        if self._settings["cuda_graph"] and not self._is_rtx:
            network.capture()
        return network.run

    def build(self, content: bytes) -> bytes:
        """Return the serialized engine of an ONNX file.

        Raises:
            RuntimeError: the parser or the builder refuses it.
        """
        trt, typed = self._trt, self._is_rtx or self._version >= (11, 0)
        builder = trt.Builder(self._log)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if typed else 0)
        parser = trt.OnnxParser(network, self._log)
        if not parser.parse(content):
            raise RuntimeError(f"cannot read the graph: {' '.join(parser.get_error(0).desc().split())}")
        config = builder.create_builder_config()
        config.builder_optimization_level = self._settings["optimization_level"]
        if not typed:
            for flag in {"fp32": (), "fp16": ("FP16",), "int8": ("INT8", "FP16")}[self._settings["precision"]]:
                config.set_flag(getattr(trt.BuilderFlag, flag))
        capabilities = self._settings["compute_capabilities"] if self._is_rtx else ()
        if capabilities:
            config.num_compute_capabilities = len(capabilities)
            for index, text in enumerate(capabilities):
                config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{text.replace('.', '')}"), index)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise RuntimeError("the builder refuses the network; its words are above")
        return bytes(engine)

    def _context(self, engine: Any) -> Any:
        if not self._is_rtx:
            return engine.create_execution_context()
        config = engine.create_runtime_config()
        if self._settings["cuda_graph"]:
            config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return engine.create_execution_context(config)

    @property
    def _is_rtx(self) -> bool:
        return bool(self._settings["flavour"] == "tensorrt-rtx")

    @property
    def _version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self._trt.__version__.split(".")[:2])

    @property
    def _cuda(self) -> Cuda:
        if self._opened is None:
            self._opened = Cuda()
        return self._opened


def _package(is_rtx: bool) -> Any:
    if is_rtx:
        import tensorrt_rtx

        return tensorrt_rtx
    import tensorrt

    return tensorrt


class _Network:
    """An engine with its tensors on the device. Holds all that must live as long as its runs."""

    def __init__(self, cuda: Cuda, runtime: Any, engine: Any, context: Any) -> None:
        self._cuda, self._runtime, self._engine, self._context = cuda, runtime, engine, context
        self._places: list[int] = []
        self._replay: Callable[[], None] | None = None

    def bind(self, trt: Any, inputs: tuple[NDArray[np.generic], ...]) -> None:
        """Place the inputs and room for the outputs on the device."""
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        is_input = {name: self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        given = iter(inputs)
        for name in names:
            if is_input[name]:
                array = next(given)
                self._context.set_input_shape(name, tuple(array.shape))
                self._place(name, self._cuda.placed(array))
        for name in names:
            if not is_input[name]:
                kind = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
                size = int(np.prod(tuple(self._context.get_tensor_shape(name)))) * kind.itemsize
                self._place(name, self._cuda.room(size))

    def capture(self) -> None:
        """Make one CUDA graph of what a run enqueues."""
        self._replay = self._cuda.captured(self._enqueue)

    def run(self) -> None:
        """Enqueue one run."""
        (self._replay or self._enqueue)()

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._cuda.stream.value):
            raise RuntimeError("the engine cannot be run; TensorRT's words are above")

    def _place(self, name: str, address: int) -> None:
        self._places.append(address)
        self._context.set_tensor_address(name, address)

    def __del__(self) -> None:
        for address in self._places:
            self._cuda.free(address)
