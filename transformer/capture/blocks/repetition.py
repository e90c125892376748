"""Which classes of modules repeat, and which of them are only wrappers of what repeats inside."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

from ..recording.steps import StepKind
from .hierarchy import Hierarchy
from .region import Region, keeps_shape

_SHARE_OF_FORKS = 0.4
_SHARE_NESTED = 0.6
_SHARE_DENSE = 0.5
_MANY_HEAVY = 20
_FEW_HEAVY = 6


@dataclass(frozen=True)
class Group:
    """Calls of one class, items of one container, one behind the other."""

    class_key: str
    calls: tuple[str, ...]


@dataclass
class Repetition:
    """What repetition says about the classes of a network."""

    forking: frozenset[str]
    """Repeated classes whose modules fork: residual blocks."""
    straight: frozenset[str]
    """Repeated classes of several heavy steps that do not fork."""
    wrappers: frozenset[str] = frozenset()
    """Classes to look into in every instance: stages, wrappers of blocks."""
    nested: frozenset[str] = frozenset()
    """Classes that repeat inside a module without being items of one container."""
    inside: dict[str, list[Group]] = field(default_factory=dict)
    """Groups strictly inside a call."""

    @property
    def repeated(self) -> frozenset[str]:
        """All classes that repeat."""
        return self.forking | self.straight | self.nested


def find_repetition(tree: Hierarchy) -> Repetition:
    """Group equal items of containers and decide which classes are wrappers."""
    groups = _groups(tree)
    forking = frozenset(g.class_key for g in groups if any(tree.forks(k) for k in g.calls))
    straight = frozenset(
        g.class_key
        for g in groups
        if g.class_key not in forking and any(tree.flow.heavy(_region(tree, k).steps) >= 2 for k in g.calls)
    )
    inside: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        for ancestor in tree.ancestors(group.calls[0]):
            inside[ancestor].append(group)
    found = Repetition(forking, straight, inside=inside)
    wrappers: set[str] = set()
    nested: set[str] = set()
    for key in tree.calls:
        if tree.work(key):
            more = _residual_chain(tree, key) if _may_chain(tree, key, found) else _lone_residuals(tree, key)
            if more or _is_wrapper(tree, key, found):
                wrappers.add(tree.class_key(key))
                nested |= more
    found.wrappers, found.nested = frozenset(wrappers), frozenset(nested)
    return found


def _groups(tree: Hierarchy) -> list[Group]:
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    for key, call in tree.calls.items():
        if call.path and tree.in_container(key) and not tree.is_layer(key) and tree.region(key) is not None:
            members[call.path.rpartition(".")[0], tree.class_key(key)].append(key)
    return [
        Group(class_key, tuple(keys))
        for (_, class_key), keys in members.items()
        if len(keys) >= 2 and any(tree.in_series(a, b) for a, b in pairwise(keys))
    ]


def _region(tree: Hierarchy, key: str) -> Region:
    region = tree.region(key)
    assert region is not None, key
    return region


def _is_wrapper(tree: Hierarchy, key: str, found: Repetition) -> bool:
    """Decide whether a call only wraps blocks.

    1. Forking groups inside do a good part of its work: a stage.
    2. It does not fork, and straight groups whose members contain forks do.
    3. It forks, and a group inside is nearly all narrowed: dense connectivity.
    4. It forks, is large, and has a longer group inside.
    """
    work, own = tree.work(key), tree.forks(key)
    groups = found.inside.get(key, [])
    in_forks = sum(_work(tree, g) for g in groups if g.class_key in found.forking)
    if in_forks >= _SHARE_OF_FORKS * work:
        return True
    in_straight = sum(
        _work(tree, g) for g in groups if g.class_key in found.straight and any(tree.inner_forks(k) for k in g.calls)
    )
    if not own:
        return in_forks + in_straight >= _SHARE_OF_FORKS * work
    if any(_narrowed(tree, g) and _work(tree, g) > _SHARE_DENSE * work for g in groups):
        return True
    repeated = found.forking | found.straight
    return tree.heavy(key) > _MANY_HEAVY and any(len(g.calls) >= 4 and g.class_key in repeated for g in groups)


def _work(tree: Hierarchy, group: Group) -> int:
    return sum(tree.flow.weight_macs(_region(tree, k).steps) for k in group.calls)


def _narrowed(tree: Hierarchy, group: Group) -> bool:
    return sum(not _region(tree, k).full for k in group.calls) >= len(group.calls) - 1


def _may_chain(tree: Hierarchy, key: str, found: Repetition) -> bool:
    return tree.forks(key) and tree.class_key(key) not in found.forking and tree.heavy(key) >= _FEW_HEAVY


def _residual_chain(tree: Hierarchy, key: str) -> frozenset[str]:
    """Return the classes of residual modules that follow each other inside a call and do most of its work."""
    by_class: dict[str, list[str]] = defaultdict(list)
    for inner in tree.descendants(key):
        if tree.forks(inner) and not tree.is_anonymous(inner):
            by_class[tree.class_key(inner)].append(inner)
    return frozenset(
        class_key
        for class_key, keys in by_class.items()
        if class_key != tree.class_key(key)
        and len(keys) >= 2
        and any(is_residual(tree, k) for k in keys)
        and not any(a in tree.ancestors(b) for a in keys for b in keys if a != b)
        and any(tree.in_series(a, b) for a, b in pairwise(keys))
        and sum(tree.work(k) for k in keys) >= _SHARE_NESTED * tree.work(key)
    )


def _lone_residuals(tree: Hierarchy, key: str) -> frozenset[str]:
    """Return the classes of residual modules that stand alone in their containers and do a good part of a stage's work.

    A stage of one block has nothing that repeats in it; its class has, over the stages. The stage changes the shape,
    its blocks do not (a layer of ConvMixer, whose one part is residual, is no stage).
    """
    region = tree.region(key)
    if region is None or tree.forks(key) or keeps_shape(tree.flow, region):
        return frozenset()
    inside = [k for k in tree.descendants(key) if _is_named_item(tree, k) and is_residual(tree, k)]
    classes = frozenset(map(tree.class_key, inside))
    spread = {c for c in classes if len({tree.calls[k].parent for k in tree.of_class(c)}) >= 2}
    work = sum(tree.work(k) for k in inside if tree.class_key(k) in spread and keeps_shape(tree.flow, _region(tree, k)))
    return frozenset(spread) if work >= _SHARE_OF_FORKS * tree.work(key) else frozenset()


def _is_named_item(tree: Hierarchy, key: str) -> bool:
    return bool(tree.calls[key].path) and not tree.is_anonymous(key) and tree.in_container(key)


def is_residual(tree: Hierarchy, key: str) -> bool:
    """Return whether a call forks and joins by an addition whose one path carries no weights."""
    region = tree.region(key)
    return region is not None and tree.forks(key) and adds_shortcut(tree, region)


def adds_shortcut(tree: Hierarchy, region: Region) -> bool:
    """Return whether some part of a region ends in an addition of a path without weights."""
    flow = tree.flow
    before = region.entry
    for part in flow.segments(region.steps, region.entry):
        last = flow.steps[part[-1]]
        if len(part) > 1 and flow.weight_macs(part) and last.kind is StepKind.CALL and "add" in last.name:
            light = {before}
            for index in part:
                if not flow.is_heavy[index] and any(s in light for s in flow.sources[index]):
                    light.add(index)
            if part[-1] in light:
                return True
        before = part[-1]
    return False
