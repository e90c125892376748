"""The module calls of a recording as a tree, and what each of them is like."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

from torch import fx, nn

from ..recording.steps import ModuleCall, Ref
from ..recording.surroundings import CONTAINERS, PRIMITIVES
from .flow import Flow
from .region import NoRegion, Region, region_of


class Hierarchy:
    """The module calls that data steps happened in. Calls are known by their keys."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.steps: dict[str, list[int]] = defaultdict(list)
        for index in flow.data:
            for key in flow.steps[index].scope:
                self.steps[key].append(index)
        self.calls: dict[str, ModuleCall] = {k: c for k, c in flow.recording.calls.items() if k in self.steps}
        self.children: dict[str | None, list[str]] = defaultdict(list)
        for key, call in self.calls.items():
            self.children[call.parent].append(key)
        self._regions: dict[str, Region | NoRegion] = {}
        self._forks: dict[str, bool] = {}
        self._inner_forks: dict[str, int] = {}

    def work(self, key: str) -> int:
        """Return the multiply-accumulates of weights in a call."""
        return self.flow.weight_macs(self.steps[key])

    def heavy(self, key: str) -> int:
        """Return the number of heavy steps in a call."""
        return self.flow.heavy(self.steps[key])

    def region_or_reason(self, key: str) -> Region | NoRegion:
        """Return the region of a call, or why it has none."""
        if key not in self._regions:
            self._regions[key] = region_of(self.flow, self.steps[key])
        return self._regions[key]

    def region(self, key: str) -> Region | None:
        """Return the region of a call."""
        found = self.region_or_reason(key)
        return found if isinstance(found, Region) else None

    def sided_region(self, key: str) -> Region | None:
        """Return the region of a call whose first argument is its entry, all else it reads being beside.

        For calls that are no region by themselves: a block that gets a global query, or a shortcut made elsewhere.
        """
        arguments, flow = self.calls[key].arguments, self.flow
        entries, exits = flow.entries(self.steps[key]), flow.exits(self.steps[key])
        main = arguments[0].index if arguments and isinstance(arguments[0], Ref) else None
        if main not in entries or len(exits) != 1 or not all(flow.steps[i].is_tensor for i in (*entries, *exits)):
            return None
        sides = tuple(i for i in entries if i != main)
        return Region(main, exits[0], tuple(self.steps[key]), full=False, sides=sides)

    def is_anonymous(self, key: str) -> bool:
        """Return whether a call's module is a plain container, whose class says nothing of its purpose."""
        return type(self.calls[key].module) in CONTAINERS

    def is_layer(self, key: str) -> bool:
        """Return whether a call is of a torch.nn layer."""
        return self.calls[key].leaf and isinstance(self.calls[key].module, PRIMITIVES)

    def class_key(self, key: str) -> str:
        """Return what makes two modules equals: the class, or for a plain container its children's classes."""
        module = self.calls[key].module
        if type(module) in CONTAINERS:
            return "[" + "+".join(sorted({type(child).__name__ for child in module.children()})) + "]"
        return f"{type(module).__module__}.{type(module).__name__}"

    def descendants(self, key: str) -> Iterator[str]:
        """Yield the calls inside a call, at any depth."""
        for child in self.children[key]:
            yield child
            yield from self.descendants(child)

    def ancestors(self, key: str) -> Iterator[str]:
        """Yield the calls around a call, innermost first."""
        parent = self.calls[key].parent
        while parent is not None and parent in self.calls:
            yield parent
            parent = self.calls[parent].parent

    def forks(self, key: str) -> bool:
        """Return whether the call itself joins parallel paths: a residual block does, a stage of blocks does not.

        Between two consecutive cuts of its region lie several steps with weights that are not all inside one child.
        """
        if key not in self._forks:
            region = self.region(key)
            self._forks[key] = region is not None and any(
                len({self._child_at(key, i) for i in part}) > 1 or {self._child_at(key, i) for i in part} == {None}
                for part in self.forked(region)
            )
        return self._forks[key]

    def forked(self, region: Region) -> Iterator[list[int]]:
        """Yield the parts of a region between cuts that hold several steps and weights."""
        for part in self.flow.segments(region.steps, region.entry):
            if len(part) > 1 and self.flow.weight_macs(part) > 0:
                yield part

    def _child_at(self, key: str, index: int) -> str | None:
        """Return the child call that a step happened in; None for the call's own steps, empty for outside."""
        scope = self.flow.steps[index].scope
        if key not in scope:
            return ""
        position = scope.index(key) + 1
        return scope[position] if position < len(scope) else None

    def inner_forks(self, key: str) -> int:
        """Return the number of forking calls inside, the outermost ones only."""
        if key not in self._inner_forks:
            self._inner_forks[key] = sum(
                1 if self.forks(child) else self.inner_forks(child) for child in self.children[key]
            )
        return self._inner_forks[key]

    @cached_property
    def forking_classes(self) -> frozenset[str]:
        """Classes of named modules of which some instance forks."""
        return frozenset(
            self.class_key(k)
            for k, call in self.calls.items()
            if call.path and not self.is_anonymous(k) and not self.is_layer(k) and self.forks(k)
        )

    def of_class(self, class_key: str) -> list[str]:
        """Return the calls of modules of a class."""
        return self._by_class[class_key]

    @cached_property
    def _by_class(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for key in self.calls:
            found[self.class_key(key)].append(key)
        return found

    def in_container(self, key: str) -> bool:
        """Return whether a call's module is an item of a container."""
        parent = self.flow.recording.model.get_submodule(self.calls[key].path.rpartition(".")[0])
        if isinstance(parent, CONTAINERS):
            return True
        return isinstance(parent, fx.GraphModule) and _numbered(parent)

    def in_series(self, first: str, second: str) -> bool:
        """Return whether the second call's result depends on the first's."""
        a, b = self.region(first), self.region(second)
        return a is not None and b is not None and self.flow.follows(b.exit, a.exit)


def _numbered(module: nn.Module) -> bool:
    names = [name for name, _ in module.named_children()]
    return bool(names) and all(name.isdigit() for name in names)
