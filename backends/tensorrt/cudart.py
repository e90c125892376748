"""The few calls of the CUDA runtime that a measurement needs, without PyTorch.

Needs Python, numpy and the CUDA runtime library only: a kit takes this file to the device. It has never run on a GPU.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NAMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "cudart64_12.dll")
_TO_DEVICE = 1  # cudaMemcpyHostToDevice
_MAJOR, _MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor, ...Minor
_PROPERTIES = 1 << 16  # bytes: more than any version's cudaDeviceProp, which begins with the name of 256 bytes
_THIS_THREAD = 1  # cudaStreamCaptureModeThreadLocal


class CudaError(RuntimeError):
    """The runtime refuses a call, or is not there."""


class Cuda:
    """The device 0 with one stream."""

    def __init__(self) -> None:
        """Load the library and make the stream.

        Raises:
            CudaError: no library or no device.
        """
        self._library = _library()
        self.stream = self._made("cudaStreamCreate")

    @property
    def name(self) -> str:
        """What the device calls itself."""
        properties = ctypes.create_string_buffer(_PROPERTIES)
        self._call("cudaGetDeviceProperties", properties, 0)
        return properties.value.decode()

    @property
    def capability(self) -> str:
        """Compute capability, such as 8.6."""
        return ".".join(str(self._number("cudaDeviceGetAttribute", kind, 0)) for kind in (_MAJOR, _MINOR))

    def version(self, of: str) -> str:
        """Return the version of ``Runtime`` or ``Driver``, such as 12.4."""
        number = self._number(f"cuda{of}GetVersion")
        return f"{number // 1000}.{number % 1000 // 10}"

    def room(self, size: int) -> int:
        """Return the address of ``size`` bytes on the device; they are freed when the process ends."""
        pointer = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(max(1, size)))
        return pointer.value or 0

    def free(self, address: int) -> None:
        """Give room back."""
        self._call("cudaFree", ctypes.c_void_p(address))

    def placed(self, array: NDArray[np.generic]) -> int:
        """Return the address of a copy of ``array`` on the device."""
        whole = np.ascontiguousarray(array)
        address = self.room(whole.nbytes)
        source = ctypes.c_void_p(whole.ctypes.data)
        self._call("cudaMemcpy", ctypes.c_void_p(address), source, ctypes.c_size_t(whole.nbytes), _TO_DEVICE)
        return address

    def wait(self) -> None:
        """Wait for all that was enqueued."""
        self._call("cudaStreamSynchronize", self.stream)

    def captured(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """Return a call that replays all that ``enqueue`` enqueues as one CUDA graph."""
        for _ in range(3):  # the first runs allocate and choose kernels
            enqueue()
        self.wait()
        self._call("cudaStreamBeginCapture", self.stream, _THIS_THREAD)
        enqueue()
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cudaStreamEndCapture", self.stream, ctypes.byref(graph))
        self._call("cudaGraphInstantiateWithFlags", ctypes.byref(ready), graph, ctypes.c_ulonglong(0))
        return lambda: self._call("cudaGraphLaunch", ready, self.stream)

    def clock(self) -> Callable[[], float]:
        """Return a clock of the stream in seconds: all that was enqueued before a reading is finished when it returns.

        Readings are events, added up one interval at a time: an event's own time is a float32 of milliseconds.
        """
        seconds, last = 0.0, self._event()

        def read() -> float:
            nonlocal seconds, last
            now, passed = self._event(), ctypes.c_float()
            self._call("cudaEventSynchronize", now)
            self._call("cudaEventElapsedTime", ctypes.byref(passed), last, now)
            self._call("cudaEventDestroy", last)
            seconds, last = seconds + passed.value / 1000, now
            return seconds

        return read

    def _event(self) -> ctypes.c_void_p:
        event = self._made("cudaEventCreate")
        self._call("cudaEventRecord", event, self.stream)
        return event

    def _made(self, function: str) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        self._call(function, ctypes.byref(handle))
        return handle

    def _number(self, function: str, *arguments: int) -> int:
        number = ctypes.c_int()
        self._call(function, ctypes.byref(number), *arguments)
        return number.value

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._library, function)(*arguments)
        if code:
            words = self._library.cudaGetErrorString
            words.restype = ctypes.c_char_p
            raise CudaError(f"{function}: {words(code).decode()}")


def _library() -> ctypes.CDLL:
    """Return the CUDA runtime: the system's, or the one that pip installed beside TensorRT."""
    found = ctypes.util.find_library("cudart")
    beside = [str(path) for folder in sys.path for path in sorted(Path(folder).glob("nvidia/*/lib/libcudart.so*"))]
    for name in (*([found] if found else []), *_NAMES, *beside):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise CudaError("the CUDA runtime library (libcudart) was not found; add its folder to LD_LIBRARY_PATH")
