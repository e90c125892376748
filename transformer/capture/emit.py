"""Writing recorded steps as an fx graph."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn

from ..errors import CaptureError
from ..tools.nested import map_leaves
from .blocks.flow import Flow
from .blocks.region import Region
from .recording.steps import InputDevice, PerSample, Ref, Step, StepKind, WhenTraining

_METHODS = ("method_descriptor", "wrapper_descriptor")


class Emitter:
    """Fills one fx graph. Values that flow in are bound first; constants are emitted where they are first read."""

    def __init__(self, flow: Flow, anchor: int | None, path: str = "") -> None:
        """``anchor`` is the step whose tensor tells the batch size and the device; targets are relative to ``path``."""
        self.flow = flow
        self.path = path
        self.graph = fx.Graph()
        self.attributes: dict[str, Any] = {}
        """What the graph refers to, by path: the root of its GraphModule."""
        self.protected: frozenset[int] = frozenset()
        """Values that in-place layers must not overwrite, because someone outside looks at them."""
        self._nodes: dict[int, fx.Node] = {}
        self._anchor = anchor
        self._batches: dict[int, fx.Node] = {}
        self._device: fx.Node | None = None
        self._training: fx.Node | None = None

    def placeholder(self, index: int, name: str) -> None:
        """Make the value of a step an argument of the graph."""
        self._nodes[index] = self.graph.placeholder(name)

    def arguments(self) -> None:
        """Make the network's arguments those of the graph, and take their tensors out of tuples, lists and dicts."""
        given = self.flow.recording.arguments
        nodes = [self.graph.placeholder("x" if len(given) == 1 else f"x{i}") for i in range(len(given))]
        for argument, node in zip(given, nodes, strict=True):
            self._unpack(argument, node)

    def _unpack(self, argument: Any, node: fx.Node) -> None:
        if isinstance(argument, Ref):
            node.meta["shape"] = self.flow.steps[argument.index].shape
            self.bind(argument.index, node)
            return
        for key, item in argument.items() if isinstance(argument, dict) else enumerate(argument):
            self._unpack(item, self.item(node, key))

    def bind(self, index: int, node: fx.Node) -> None:
        """Let ``node`` stand for the value of a step."""
        self._nodes[index] = node

    def call_submodule(self, target: str, module: nn.Module, region: Region) -> fx.Node:
        """Call a module of the graph on the values that a region reads."""
        self.attributes[target] = module
        return self.graph.call_module(target, tuple(map(self.node, (region.entry, *region.sides))))

    def item(self, node: fx.Node, position: int | str) -> fx.Node:
        """Take one value of a tuple, list or dict."""
        return self.graph.call_function(operator.getitem, (node, position))

    def relative(self, path: str) -> str:
        """Return ``path`` as seen from the module that the graph belongs to."""
        return path.removeprefix(f"{self.path}.") if self.path else path

    def node(self, index: int) -> fx.Node:
        """Return the node of a step's value; a constant is emitted now."""
        if index not in self._nodes:
            self.emit(index)
        return self._nodes[index]

    def emit(self, index: int) -> None:
        """Emit a step."""
        step = self.flow.steps[index]
        node = self._emit(step)
        node.meta["source"] = step.source
        node.meta["shape"] = step.shape
        self._nodes[index] = node

    def _emit(self, step: Step) -> fx.Node:
        if step.kind is StepKind.ATTRIBUTE:
            return self._attribute(step.target)
        args, kwargs = self.value(step.args), self.value(step.kwargs)
        if step.kind is StepKind.MODULE:
            target = self.relative(step.target)
            self.attributes[target] = self.flow.recording.model.get_submodule(step.target)
            if self._must_copy(step):
                args = (self.graph.call_method("clone", (args[0],)), *args[1:])
            return self.graph.call_module(target, args, kwargs)
        if step.kind is StepKind.ASSIGN:
            copy = self.graph.call_method("clone", (args[0],))
            changed = self._call(step.target, (copy, *args[1:]), kwargs)
            return copy if step.target is operator.setitem else changed
        return self._call(step.target, args, kwargs)

    def _must_copy(self, step: Step) -> bool:
        """Return whether a layer that works in place gets a copy: its input's old value is still of use."""
        into = step.writes_into
        return into is not None and (step.contested or into in self.protected or len(self.flow.users[into]) > 1)

    def _attribute(self, name: str) -> fx.Node:
        recording = self.flow.recording
        own = self.relative(name)
        self.attributes[own] = recording.constants[name] if name in recording.constants else _get(recording.model, name)
        return self.graph.get_attr(own)

    def _call(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        name = str(getattr(target, "__name__", ""))
        if type(target).__name__ in _METHODS or getattr(target, "__qualname__", "").startswith("Tensor."):
            return self.graph.call_method(name, args, kwargs)
        return self.graph.call_function(target, args, kwargs)

    def value(self, value: Any) -> Any:
        """Return an argument with nodes for what is symbolic in it."""
        return map_leaves(value, self._leaf)

    def _leaf(self, leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            return self.node(leaf.index)
        if isinstance(leaf, PerSample):
            return self._rows(leaf.factor)
        if isinstance(leaf, WhenTraining):
            return self._when_training(leaf.value)
        if isinstance(leaf, InputDevice):
            if self._device is None:
                self._device = self.graph.call_function(getattr, (self._anchored(), "device"))
            return self._device
        if isinstance(leaf, Tensor):
            raise CaptureError(f"a tensor of shape {tuple(leaf.shape)} is hidden inside an argument")
        return leaf

    def _rows(self, factor: int) -> fx.Node:
        """Return ``factor`` times the batch size, taken from the anchor's tensor."""
        if 1 not in self._batches:
            anchored, (dim, per_sample) = self._anchored(), self.flow.steps[self._anchor or 0].batch_dims[0]
            size = self.graph.call_method("size", (anchored, dim))
            self._batches[1] = (
                size if per_sample == 1 else self.graph.call_function(operator.floordiv, (size, per_sample))
            )
        if factor not in self._batches:
            self._batches[factor] = self.graph.call_function(operator.mul, (self._batches[1], factor))
        return self._batches[factor]

    def _anchored(self) -> fx.Node:
        if self._anchor is None or not self.flow.steps[self._anchor].batch_dims:
            raise CaptureError(
                f"{self.path or 'the network'} makes tensors that follow the batch, but no value that it gets "
                "tells the batch size in a dimension of its own"
            )
        return self._nodes[self._anchor]

    def _when_training(self, value: Any) -> fx.Node:
        if self._training is None:
            self.attributes["training"] = self.flow.recording.model.training
            self._training = self.graph.get_attr("training")
        return self._training if value is True else self.graph.call_function(operator.mul, (self._training, value))

    def module(self, name: str) -> fx.GraphModule:
        """Return the graph as a module, which shares everything it refers to with the model."""
        made = fx.GraphModule(self.attributes, self.graph, name)
        _set_mode(made, self.flow.recording.model.training, self.attributes)
        return made


def _set_mode(module: fx.GraphModule, training: bool, shared: Mapping[str, Any]) -> None:
    """Give the module and its own containers a mode, and leave that of shared modules alone."""
    for path, inner in module.named_modules():
        if not any(path == name or path.startswith(f"{name}.") for name in shared):
            inner.training = training


def _get(model: nn.Module, path: str) -> Any:
    value: Any = model
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list | tuple) else getattr(value, part)
    return value


def emit_region(flow: Flow, region: Region, name: str) -> fx.GraphModule:
    """Return a region as a module of the value that enters it, and of those that it reads beside."""
    emitter = Emitter(flow, region.entry)
    emitter.protected = frozenset((region.entry, *region.sides))
    emitter.placeholder(region.entry, "x")
    for position, side in enumerate(region.sides):
        emitter.placeholder(side, f"side{position}")
    for index in region.steps:
        emitter.emit(index)
    emitter.graph.output(emitter.node(region.exit))
    return emitter.module(name)
