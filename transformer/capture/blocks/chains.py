"""Layers in a row that no module holds together: what is left once the blocks are chosen."""

from __future__ import annotations

from collections.abc import Iterable

from ..recording.steps import StepKind
from .flow import Flow
from .region import Region, Role, Site

_MOST_HEAVY = 3


def find_runs(flow: Flow, sites: Iterable[Site], merge: bool = True) -> list[Site]:
    """Make a run of every heavy step outside of ``sites``, with the light steps around it, in order.

    A run reaches back over single-use norms and activations and forward over single-use steps without weights, as long
    as the rank stays and space does not collapse to a point. With ``merge``, neighbours in one container with equal
    resolution become one.
    """
    taken = {i for site in sites for i in site.region.steps}
    runs: list[list[int]] = []
    for index in flow.data:
        if flow.is_heavy[index] and index not in taken and _is_simple(flow, index):
            run = _forward(flow, _backward(flow, [index], taken), taken)
            taken.update(run)
            if runs and merge and _mergeable(flow, runs[-1], run):
                runs[-1] += run
            else:
                runs.append(run)
    return [_site(flow, run) for run in runs]


def _is_simple(flow: Flow, index: int) -> bool:
    sources = flow.sources[index]
    return flow.steps[index].is_tensor and len(sources) == 1 and flow.steps[sources[0]].is_tensor


def _rank(flow: Flow, index: int) -> int:
    return len(flow.steps[index].shape or ())


def _backward(flow: Flow, run: list[int], taken: set[int]) -> list[int]:
    """Take in norms and activations before the first step."""
    while True:
        before = flow.sources[run[0]][0]
        step = flow.steps[before]
        if step.kind is not StepKind.MODULE or before in taken or flow.is_heavy[before] or before in flow.outputs:
            return run
        if len(flow.users[before]) != 1 or not _is_simple(flow, before):
            return run
        source = flow.sources[before][0]
        if not _rank(flow, run[0]) == _rank(flow, before) == _rank(flow, source):
            return run
        if flow.is_heavy[source] and source not in taken:
            return run
        run.insert(0, before)


def _forward(flow: Flow, run: list[int], taken: set[int]) -> list[int]:
    """Take in steps without weights behind the last step."""
    while run[-1] not in flow.outputs:
        last, users = run[-1], flow.users[run[-1]]
        if len(users) == 1 and _continues(flow, last, users[0], taken):
            run.append(users[0])
        elif len(users) == 2 and _gates(flow, last, users, taken):
            run += users
        else:
            break
    return run


def _continues(flow: Flow, last: int, user: int, taken: set[int]) -> bool:
    if user in taken or flow.is_heavy[user] or flow.sources[user] != [last] or not flow.steps[user].is_tensor:
        return False
    before, after = flow.steps[last].shape or (), flow.steps[user].shape or ()
    collapses = len(after) == 4 and after[2:] == (1, 1) != before[2:]
    return len(before) == len(after) and not collapses


def _gates(flow: Flow, last: int, users: list[int], taken: set[int]) -> bool:
    """Return whether the users are ``x * f(x)``."""
    gate, product = users
    return (
        taken.isdisjoint(users)
        and flow.sources[gate] == [last]
        and flow.sources[product] == sorted((last, gate))
        and flow.users[gate] == [product]
        and not flow.is_heavy[gate]
        and not flow.is_heavy[product]
        and flow.steps[product].shape == flow.steps[last].shape
    )


def _mergeable(flow: Flow, first: list[int], second: list[int]) -> bool:
    joint = first[-1]
    if flow.sources[second[0]] != [joint] or flow.users[joint] != [second[0]] or joint in flow.outputs:
        return False
    if _container(flow, first) != _container(flow, second) or flow.heavy(first + second) > _MOST_HEAVY:
        return False
    entry = flow.steps[flow.sources[first[0]][0]].shape or ()
    middle, last = flow.steps[joint].shape or (), flow.steps[second[-1]].shape or ()
    return len(entry) == len(middle) == len(last) == 4 and entry[2:] == middle[2:]


def _container(flow: Flow, run: list[int]) -> tuple[str, ...]:
    step = flow.steps[run[0]]
    return step.scope[:-1] if step.kind is StepKind.MODULE else step.scope


def _site(flow: Flow, run: list[int]) -> Site:
    """Make the site of a run; one layer alone is the call of that layer."""
    first = flow.steps[run[0]]
    alone = len(run) == 1 and first.kind is StepKind.MODULE
    region = Region(flow.sources[run[0]][0], run[-1], tuple(run), full=alone)
    return Site(Role.RUN, region, first.scope[-1] if alone else None, _name(flow, run))


def _name(flow: Flow, run: list[int]) -> str:
    """Name a run after its first heavy step: its module, or the module it happens in and the function."""
    step = next(flow.steps[i] for i in run if flow.is_heavy[i])
    if step.kind is StepKind.MODULE:
        return str(step.target)
    return ".".join([*step.scope[-1:], step.name]).lstrip(".")
