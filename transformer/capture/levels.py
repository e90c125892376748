"""A network as nested graphs: every module keeps its own level, so paths, state-dict keys and blocks survive."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence

from torch import Tensor, fx, nn

from ..files.described.layers import is_plain
from ..files.described.serialize import assemble
from ..tools.nested import leaves, map_leaves
from .blocks.flow import Flow
from .emit import Emitter
from .recording.record import record
from .recording.steps import ModuleCall, PerSample, Ref, StepKind
from .recording.surroundings import CONTAINERS, exact_leaf


def as_levels(model: nn.Module, inputs: Sequence[Tensor]) -> nn.Module:
    """Return ``model`` as torch.nn layers, containers, and GraphModules named after the original classes.

    Layers, parameters and buffers are shared. Modules that the run did not reach are left out.

    Raises:
        CaptureError: the network cannot be captured, or not without keeping a module of its own code whole.
    """
    return Levels(Flow(record(model, inputs, exact_leaf, by_place=True))).build("")


class Levels:
    """Builds the nested graphs of one recording, inside out."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.model = flow.recording.model
        self.calls: dict[str, list[ModuleCall]] = defaultdict(list)
        for call in flow.recording.calls.values():
            self.calls[call.path].append(call)
        self.live = [step.index for step in flow.steps if flow.is_live[step.index]]
        self._steps: dict[str, list[int]] = defaultdict(list)
        for index in self.live:
            for key in flow.steps[index].scope:
                self._steps[key].append(index)
        self._opened: dict[str, bool] = {}
        self._readers = self._readers_of_values()

    def _readers_of_values(self) -> dict[int, list[int]]:
        readers: dict[int, list[int]] = defaultdict(list)
        for index in self.live:
            for read in self.flow.reads[index]:
                readers[read].append(index)
        return readers

    # what each module becomes

    def build(self, path: str) -> nn.Module:
        """Return what stands for the module at ``path``."""
        module = self.model.get_submodule(path)
        if exact_leaf(module, 1):
            return module
        if not self.is_called(path) or self.is_opened(path):
            return self._container(path, module)
        if type(module) is nn.Sequential and is_plain(module) and self._is_chain(path):
            return self._container(path, module)
        return self._level(path, module)

    def is_called(self, path: str) -> bool:
        """Return whether the module ran as a whole and made values."""
        return path == "" or any(self._steps[call.key] for call in self.calls[path])

    def is_opened(self, path: str) -> bool:
        """Return whether the module's work belongs to its caller: its calls differ, so that no one graph holds them."""
        if path not in self._opened:
            calls = [call for call in self.calls[path] if self._steps[call.key]]
            self._opened[path] = False
            if len(calls) > 1:
                self._opened[path] = len({self._text(call.key, path) for call in calls}) > 1
        return self._opened[path]

    def _text(self, key: str, path: str) -> str:
        graph = self._emit(key, path).graph
        return "\n".join(f"{node.format_node()} {node.args} {node.kwargs}" for node in graph.nodes)

    def _container(self, path: str, module: nn.Module) -> nn.Module:
        kind = type(module) if type(module) in CONTAINERS else nn.Module
        made = kind()
        for name, child in self._children(path, module).items():
            made.add_module(name, child)
        made.training = module.training
        return made

    def _children(self, path: str, module: nn.Module) -> dict[str, nn.Module]:
        children = OrderedDict[str, nn.Module]()
        for name, child in module._modules.items():
            if child is None:
                continue
            below = f"{path}.{name}".lstrip(".")
            if self._reached(below):
                children[name] = self.build(below)
            elif type(module) is nn.Sequential and self.calls[below]:
                children[name] = nn.Identity()  # it ran and handed its input on
        return children

    def _reached(self, path: str) -> bool:
        """Return whether anything at or below ``path`` made a value or lent a parameter to one."""
        inside = (self._steps[c.key] for p, calls in self.calls.items() if _within(p, path) for c in calls)
        steps = (self.flow.steps[i] for i in self.live)
        return any(inside) or any(s.kind is StepKind.ATTRIBUTE and _within(str(s.target), path) for s in steps)

    def _is_chain(self, path: str) -> bool:
        """Return whether a Sequential's children each ran on the one result of the child before."""
        count = sum(child is not None for child in self.model.get_submodule(path)._modules.values())
        for call in self.calls[path]:
            links = [c for c in self.flow.recording.calls.values() if c.parent == call.key]
            if len(links) != count or not all(map(self._is_link, links)):
                return False
        return True

    def _is_link(self, call: ModuleCall) -> bool:
        plain = len(call.arguments) == 1 and isinstance(call.arguments[0], Ref) and not call.keywords
        return plain and len(self.exits(call.key)) <= 1 and len(self.entries(call.key, call.path)) <= 1

    # values across the border of a call

    def entries(self, key: str, path: str) -> list[int]:
        """Return the values a call reads from outside, its arguments first."""
        inside = set(self._steps[key])
        read = {r for i in inside for r in self.flow.reads[i]} - inside
        read -= {r for r in read if self._is_own(r, path)}
        arguments = [leaf.index for leaf in leaves(self.flow.recording.calls[key].arguments) if isinstance(leaf, Ref)]
        first = [index for index in dict.fromkeys(arguments) if index in read]
        return first + sorted(read - set(first))

    def _is_own(self, index: int, path: str) -> bool:
        step = self.flow.steps[index]
        if step.kind is not StepKind.ATTRIBUTE:
            return False
        return step.target in self.flow.recording.constants or _within(step.target, path)

    def exits(self, key: str) -> list[int]:
        """Return the values of a call that are used outside of it."""
        inside = set(self._steps[key])
        return [
            i
            for i in self._steps[key]
            if i in self.flow.outputs or any(reader not in inside for reader in self._readers[i])
        ]

    # graphs

    def _level(self, path: str, module: nn.Module) -> fx.GraphModule:
        key = next((call.key for call in self.calls[path] if self._steps[call.key]), "")
        emitter = self._emit(key, path)
        root = nn.Module()
        for name, child in self._children(path, module).items():
            root.add_module(name, child)
        used = {str(n.target) for n in emitter.graph.nodes if n.op == "get_attr"}
        for name in sorted(used - {"training"}, key=list(emitter.attributes).index):
            if "." not in name:
                value = emitter.attributes[name]
                if isinstance(value, nn.Parameter):
                    root.register_parameter(name, value)
                else:
                    root.register_buffer(name, value)
        root.training = module.training
        return assemble(root, emitter.graph, type(module).__name__)

    def _emit(self, key: str, path: str) -> Emitter:
        recording = self.flow.recording
        inputs = recording.inputs if path == "" else self.entries(key, path)
        anchor = next((i for i in inputs if self.flow.steps[i].batch_dims), None)
        emitter = Emitter(self.flow, anchor, path)
        if path == "":
            emitter.arguments()
        else:
            for position, index in enumerate(inputs):
                emitter.placeholder(index, "x" if position == 0 else f"x{position}")
        steps = self.live if path == "" else self._steps[key]
        depth = self._depth(key)
        done: set[str] = set()
        for index in steps:
            step = self.flow.steps[index]
            if step.kind in (StepKind.INPUT, StepKind.ATTRIBUTE):
                continue
            child = self._child(step.scope, depth)
            if child is None:
                emitter.emit(index)
            elif child not in done:
                done.add(child)
                self._call(emitter, child, path)
        output = map_leaves(recording.output, lambda leaf: self._returned(emitter, leaf)) if path == "" else None
        if path != "":
            made = [emitter.node(i) for i in self.exits(key)]
            output = made[0] if len(made) == 1 else tuple(made)
        emitter.graph.output(output)
        return emitter

    def _depth(self, key: str) -> int:
        """Return how many calls around a step lead to the call ``key``, itself included."""
        if key == "":
            return 1
        return self.flow.steps[self._steps[key][0]].scope.index(key) + 1

    def _child(self, scope: tuple[str, ...], depth: int) -> str | None:
        """Return the child call that a step happened in, looking through opened modules; None for own steps."""
        for key in scope[depth:]:
            call = self.flow.recording.calls[key]
            if call.leaf:
                return None
            if not self.is_opened(call.path):
                return key
        return None

    def _call(self, emitter: Emitter, key: str, path: str) -> None:
        """Emit the call of a child level, and one item per value where it returns several."""
        target = self.flow.recording.calls[key].path
        arguments = tuple(emitter.node(i) for i in self.entries(key, target))
        node = emitter.graph.call_module(emitter.relative(target), arguments)
        exits = self.exits(key)
        if len(exits) == 1:
            emitter.bind(exits[0], node)
            return
        for position, index in enumerate(exits):
            emitter.bind(index, emitter.item(node, position))

    def _returned(self, emitter: Emitter, leaf: object) -> object:
        return emitter.value(leaf) if isinstance(leaf, Ref | PerSample) else leaf


def _within(path: str, module: str) -> bool:
    return module == "" or path == module or path.startswith(f"{module}.")
