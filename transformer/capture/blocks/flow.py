"""How values flow through a recording: which steps feed which, and where the flow narrows to one value."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from functools import cached_property

from ...tools.nested import leaves
from ..recording.steps import Recording, Ref, Step, StepKind
from ..recording.surroundings import owned_tensors

_NEVER = sys.maxsize


class Flow:
    """The data flow of a recording.

    Data steps are those that depend on a network input and that the output depends on. Everything else (parameters,
    buffers, what is computed from them alone) is constant and belongs to whichever region reads it.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.steps: list[Step] = recording.steps
        count = len(self.steps)
        self.reads = [step.refs() for step in self.steps]
        self.outputs = frozenset(leaf.index for leaf in leaves(recording.output) if isinstance(leaf, Ref))
        self.is_live = self._live()
        from_input = [False] * count
        for index in recording.inputs:
            from_input[index] = True
        for index, read in enumerate(self.reads):
            from_input[index] = from_input[index] or any(from_input[r] for r in read)
        self.is_data = [a and b for a, b in zip(from_input, self.is_live, strict=True)]
        self.data = [i for i in range(count) if self.is_data[i] and self.steps[i].kind is not StepKind.INPUT]
        self.sources = [sorted(r for r in read if from_input[r]) for read in self.reads]
        self.users: list[list[int]] = [[] for _ in range(count)]
        self._known_draws: dict[int, frozenset[int]] = {}
        for index in self.data:
            for source in self.sources[index]:
                self.users[source].append(index)

    def _live(self) -> list[bool]:
        live = [False] * len(self.steps)
        wanted = [*self.outputs, *(step.index for step in self.steps if self.recording.has_effect(step))]
        while wanted:
            index = wanted.pop()
            if not live[index]:
                live[index] = True
                wanted.extend(self.reads[index])
        return live

    @cached_property
    def ancestors(self) -> list[int]:
        """For each step the set of data steps it depends on, as a bit mask."""
        masks = [0] * len(self.steps)
        for index in self.data:
            for source in self.sources[index]:
                masks[index] |= masks[source] | 1 << source
        return masks

    def follows(self, later: int, earlier: int) -> bool:
        """Return whether ``later`` depends on ``earlier``."""
        return bool(self.ancestors[later] >> earlier & 1)

    def entries(self, region: Sequence[int]) -> list[int]:
        """Return the values that a region reads from outside."""
        inside = set(region)
        return sorted({s for i in region for s in self.sources[i]} - inside)

    def exits(self, region: Sequence[int]) -> list[int]:
        """Return the values of a region that are used outside of it."""
        inside = set(region)
        return [i for i in region if i in self.outputs or any(user not in inside for user in self.users[i])]

    def cuts(self, region: Sequence[int], entries: Iterable[int] | None = None) -> list[int]:
        """Return the steps of a region, in order, after which its whole flow is in one tensor.

        One sweep: a step is a cut where no value made before it is used after it.
        """
        inside = set(region)
        entries = self.entries(region) if entries is None else entries
        reach = max((max((u for u in self.users[e] if u in inside), default=-1) for e in entries), default=-1)
        found = []
        for index in region:
            if reach <= index and self.steps[index].is_tensor:
                found.append(index)
            reach = max(reach, self._last_use(index, inside))
        return found

    @cached_property
    def trunk(self) -> frozenset[int]:
        """The values that the whole flow of the network is in: its only input, and what it narrows to on the way."""
        inputs = self.recording.inputs
        return frozenset(self.cuts(self.data, inputs) + list(inputs if len(inputs) == 1 else ()))

    def _last_use(self, index: int, inside: set[int]) -> int:
        if index in self.outputs:
            return _NEVER
        users = self.users[index]
        return _NEVER if any(user not in inside for user in users) else max(users, default=-1)

    def segments(self, region: Sequence[int], entry: int) -> list[list[int]]:
        """Split a region with one entry at its cuts; a segment ends with its cut."""
        parts, start = [], 0
        for cut in self.cuts(region, [entry]):
            end = bisect_right(region, cut)
            parts.append(list(region[start:end]))
            start = end
        return parts

    @cached_property
    def is_heavy(self) -> list[bool]:
        """Whether a step is a weighted sum: it multiplies, and by trained values."""
        return [s.macs > 0 and self.is_data[s.index] and self._has_weights(s) for s in self.steps]

    def _has_weights(self, step: Step) -> bool:
        if step.kind is StepKind.MODULE:
            module = self.recording.model.get_submodule(step.target)
            return next(module.parameters(), None) is not None
        return any(not self.is_data[r] and self._trained(r) for r in self.reads[step.index])

    def _trained(self, constant: int) -> bool:
        """Return whether a constant comes from a tensor of the model."""
        step = self.steps[constant]
        if step.kind is StepKind.INPUT:
            return False
        return step.kind is StepKind.ATTRIBUTE or any(self._trained(r) for r in self.reads[constant])

    @cached_property
    def weights(self) -> dict[int, frozenset[str]]:
        """For each heavy step the paths of the tensors that it multiplies by; one path for a tensor held twice."""
        owned = owned_tensors(self.recording.model)
        return {i: frozenset(self._weights(self.steps[i], owned)) for i in self.data if self.is_heavy[i]}

    @cached_property
    def drawn(self) -> dict[int, frozenset[int]]:
        """Constants with random numbers in them that several data steps read, with the steps that draw these.

        They are drawn once for all that read them.
        """
        readers = self._readers_of_draw
        found = {i: self._draws(i) for index in self.data for i in self.reads[index] if not self._is_value(i)}
        return {i: draws for i, draws in found.items() if any(len(readers[draw]) > 1 for draw in draws)}

    @cached_property
    def _readers_of_draw(self) -> dict[int, set[int]]:
        """For each step that draws random numbers into constants the data steps that read them."""
        readers: dict[int, set[int]] = defaultdict(set)
        for index in self.data:
            for constant in self.reads[index]:
                for draw in () if self._is_value(constant) else self._draws(constant):
                    readers[draw].add(index)
        return readers

    def _draws(self, constant: int) -> frozenset[int]:
        if constant not in self._known_draws:
            upstream = self._upstream([constant])
            self._known_draws[constant] = frozenset(i for i in upstream if self.recording.has_effect(self.steps[i]))
        return self._known_draws[constant]

    def drawn_for(self, region: Sequence[int]) -> tuple[int, ...]:
        """Return those of them that a region reads, unless all is read in it."""
        inside = set(region)
        found = {read for index in region for read in self.reads[index] if read in self.drawn}
        readers = self._readers_of_draw
        return tuple(sorted(c for c in found if any(not inside.issuperset(readers[d]) for d in self.drawn[c])))

    def _weights(self, step: Step, owned: dict[int, str]) -> Iterator[str]:
        constants = [self.steps[i] for i in self.constants_of([step.index], self.drawn)]
        if step.kind is StepKind.CALL and "attention" in step.name:
            return  # what is added, a mask or a table, may be shared
        if step.kind is StepKind.MODULE:
            module = self.recording.model.get_submodule(step.target)
            yield from (owned[id(p)] for p in module.parameters())
        yield from (c.target for c in constants if c.kind is StepKind.ATTRIBUTE)

    @cached_property
    def readers_of_weight(self) -> dict[str, list[int]]:
        """For the path of each such tensor the heavy steps that multiply by it."""
        readers: dict[str, list[int]] = defaultdict(list)
        for index, weights in self.weights.items():
            for weight in sorted(weights):
                readers[weight].append(index)
        return readers

    def shared_weight(self, region: Iterable[int]) -> str | None:
        """Return the path of a tensor that is multiplied by both in a region and outside of it."""
        inside = set(region)
        weights = (weight for i in sorted(inside) if self.is_heavy[i] for weight in sorted(self.weights[i]))
        return next((w for w in weights if not inside.issuperset(self.readers_of_weight[w])), None)

    def weight_macs(self, region: Iterable[int]) -> int:
        """Return the multiply-accumulates of a region's heavy steps."""
        return sum(self.steps[i].macs for i in region if self.is_heavy[i])

    def macs(self, region: Iterable[int]) -> int:
        """Return all multiply-accumulates of a region, attention's products included."""
        return sum(self.steps[i].macs for i in region)

    def heavy(self, region: Iterable[int]) -> int:
        """Return the number of heavy steps in a region."""
        return sum(self.is_heavy[i] for i in region)

    def constants_of(self, region: Iterable[int], sides: Container[int] = ()) -> list[int]:
        """Return the constant steps a region needs, in order; those in ``sides`` it is given."""
        return self._upstream((r for i in region for r in self.reads[i] if not self._is_value(r)), sides)

    def _upstream(self, steps: Iterable[int], sides: Container[int] = ()) -> list[int]:
        """Return the steps and all that they read, but for ``sides`` and what only these read, in order."""
        found: set[int] = set()
        wanted = list(steps)
        while wanted:
            index = wanted.pop()
            if index not in found and index not in sides:
                found.add(index)
                wanted.extend(self.reads[index])
        return sorted(found)

    def _is_value(self, index: int) -> bool:
        """Return whether a step's value flows: data, or an input."""
        return self.is_data[index] or self.steps[index].kind is StepKind.INPUT
