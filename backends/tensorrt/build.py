"""From a prepared graph to an engine. TensorRT-RTX builds for GPUs that are not here; TensorRT needs its GPU."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx

from ...transformer.contracts.target import Target
from ...transformer.errors import CaptureError
from . import caches, support
from .options import Flavour, Options, read_options
from .prepare import to_half

LARGEST_BATCH = 256
"""Of an engine whose batch is open; more are run in pieces."""


def build_engine(model: onnx.ModelProto, target: Target) -> bytes:
    """Return the serialized engine of ``model`` for ``target``.

    Raises:
        CaptureError: the parser or the builder refuses it, with its words.
        MissingExtraError: the target's package is not installed.
    """
    options = read_options(target)
    trt, log = support.api(options.flavour), listener(options.flavour)
    typed = support.strongly_typed(options.flavour)
    log.heard.clear()
    builder = trt.Builder(log)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if typed else 0
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, log)
    graph = to_half(model) if typed and target.precision != "fp32" else model  # beside INT8 the rest is FP16
    if not parser.parse(graph.SerializeToString()):
        raise CaptureError(f"{options.flavour} cannot read the graph: {_parser_words(parser)}")
    config = builder.create_builder_config()
    _configure(config, trt, options, target, typed)
    _open_batch(builder, config, network, target)
    with caches.timing_cache(config, options.flavour):
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise CaptureError(f"{options.flavour} cannot build the network: {words(options.flavour)}")
    return bytes(engine)


@cache
def listener(flavour: Flavour) -> Any:
    """Return what the package logs to. One a process: later ones would not be heard."""
    logger = support.api(flavour).ILogger
    serious = (logger.ERROR, logger.INTERNAL_ERROR)

    class Listener(logger):  # type: ignore[misc, valid-type]  # the package has no types
        def __init__(self) -> None:
            logger.__init__(self)
            self.heard: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity in serious:
                self.heard.append(text)

    return Listener()


def words(flavour: Flavour) -> str:
    """Return in one line what the package said last; the first error is the cause, the others follow from it."""
    heard = listener(flavour).heard
    return " ".join(heard[0].split()) if heard else "it gives no reason"


def _parser_words(parser: Any) -> str:
    error = parser.get_error(0)
    where = error.node_name() or "the graph"
    return f"{where} ({error.node_operator()}): {' '.join(error.desc().split())}"


def _configure(config: Any, trt: Any, options: Options, target: Target, typed: bool) -> None:
    config.builder_optimization_level = options.optimization_level
    if not typed:
        wanted = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8", "FP16")}[target.precision]
        for name in wanted:
            config.set_flag(getattr(trt.BuilderFlag, name))
    if options.flavour == "tensorrt-rtx" and options.compute_capabilities:
        config.num_compute_capabilities = len(options.compute_capabilities)
        for index, text in enumerate(options.compute_capabilities):
            name = f"SM{text.replace('.', '')}"
            capability = trt.ComputeCapability.__members__.get(name)
            if capability is None or not config.set_compute_capability(capability, index):
                known = ", ".join(item for item in trt.ComputeCapability.__members__ if item.startswith("SM"))
                raise CaptureError(f"{options.flavour} cannot build for {name}; it can for {known}")


def _open_batch(builder: Any, config: Any, network: Any, target: Target) -> None:
    """Where dimension 0 is open, tune for the target's batch and take up to ``LARGEST_BATCH``."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    if all(size >= 0 for item in inputs for size in item.shape):
        return
    profile = builder.create_optimization_profile()
    for item in inputs:
        rest = tuple(item.shape)[1:]
        batches = (1, target.batch_size, max(LARGEST_BATCH, target.batch_size))
        profile.set_shape(item.name, *((size, *rest) for size in batches))
    config.add_optimization_profile(profile)
