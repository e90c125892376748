"""Making blocks of sites: contract, cost, kind, and the module that runs them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from ....op_library.tensor_spec import Layout, TensorSpec
from ...ir.block import Block, BlockKind
from ...tools.nested import map_leaves
from ..emit import emit_region
from ..recording.steps import Ref, Step, StepKind
from .flow import Flow
from .hierarchy import Hierarchy
from .layout import layout_of
from .region import Region, Role, Site
from .repetition import adds_shortcut


def spec_of(flow: Flow, value: int) -> TensorSpec | str:
    """Return the contract of a value, or why it has none."""
    step = flow.steps[value]
    assert step.shape is not None
    if len(step.batch_dims) != 1 or step.batch_dims[0][0] != 0:
        return f"{step.name} does not hold the batch in dimension 0 alone"
    dtype = str(step.dtype).removeprefix("torch.")
    return TensorSpec(step.shape[1:], dtype, layout_of(flow, value), step.batch_dims[0][1])


def spec_or_fixed(flow: Flow, value: int) -> TensorSpec:
    """Return the contract of a value; one that does not hold the batch in dimension 0 alone has batch 0."""
    spec = spec_of(flow, value)
    if isinstance(spec, str):
        step = flow.steps[value]
        return TensorSpec(step.shape or (), str(step.dtype).removeprefix("torch."), batch=0)
    return spec


def swapped(tree: Hierarchy, site: Site, once: bool = True) -> nn.Module | None:
    """Return the original submodule, if the site is exactly one plain call of it that can be swapped in place.

    With ``once``, only if that is the one call of it.
    """
    if site.call is None or not site.region.full or site.region.sides:
        return None
    flow, call, region = tree.flow, tree.calls[site.call], site.region
    if call.arguments != (Ref(region.entry),) or call.keywords or call.result != Ref(region.exit):
        return None
    if (once and len(flow.recording.calls_of(call.path)) != 1) or list(region.steps) != tree.steps[site.call]:
        return None
    return None if _writes_entry(flow, region) else call.module


def _writes_entry(flow: Flow, region: Region) -> bool:
    """Return whether the original may overwrite its input, which others may read or observe."""
    writes = (flow.steps[i] for i in region.steps if flow.steps[i].writes_into is not None)
    return any(step.writes_into == region.entry or step.contested for step in writes)


def make_block(tree: Hierarchy, site: Site, position: Position) -> Block | str:
    """Return the block of a site, or why it has none."""
    flow, region = tree.flow, site.region
    entry, exit_ = spec_of(flow, region.entry), spec_of(flow, region.exit)
    if isinstance(entry, str):
        return entry
    if isinstance(exit_, str):
        return exit_
    original = swapped(tree, site)
    class_name = "Run"
    if site.call is not None and site.role is not Role.RUN:
        class_name = type(tree.calls[site.call].module).__name__
    target = site.name if original is not None else _region_target(site.name)
    kind = _kind(tree, site, position, entry, exit_)
    return Block(
        name=site.name,
        kind=kind,
        class_name=class_name,
        input=entry,
        output=exit_,
        macs=flow.macs(region.steps),
        parameters=_parameters(flow, region),
        identity_allowed=entry == exit_,
        module=original or emit_region(flow, region, class_name),
        target=target,
        signature=signature(flow, region),
        sides=tuple(spec_or_fixed(flow, side) for side in region.sides),
        replaceable=kind not in (BlockKind.STEM, BlockKind.HEAD),
        trunk={region.entry, region.exit} <= flow.trunk,
    )


def _region_target(name: str) -> str:
    return "regions." + name.replace(".", "_").replace("@", "_call")


class Position:
    """Where a site lies among the sites of its network."""

    def __init__(self, before_blocks: bool, after_blocks: bool) -> None:
        self.before_blocks = before_blocks
        self.after_blocks = after_blocks


def positions(flow: Flow, sites: Sequence[Site]) -> list[Position]:
    """Tell which sites lie before the first block and after the last; without blocks, which reads the input."""
    blocks = [i for i, site in enumerate(sites) if site.role is Role.BLOCK]
    if not blocks:
        return [Position(site.region.entry in _light_from_inputs(flow), False) for site in sites]
    return [Position(i < blocks[0], i > blocks[-1]) for i in range(len(sites))]


def _light_from_inputs(flow: Flow) -> set[int]:
    """Return the inputs and what is made of them without weights."""
    light = set(flow.recording.inputs)
    for index in flow.data:
        if not flow.is_heavy[index] and all(s in light for s in flow.sources[index]):
            light.add(index)
    return light


def _kind(tree: Hierarchy, site: Site, position: Position, entry: TensorSpec, exit_: TensorSpec) -> BlockKind:
    flow, region = tree.flow, site.region
    between = site.role is Role.BLOCK or _is_tied(tree, site)
    if not between and position.before_blocks:
        first = region.entry in _light_from_inputs(flow)
        if first or site.role is Role.RUN or flow.heavy(region.steps) < 2:
            return BlockKind.STEM
    if len(exit_.shape) <= 1 or (not between and position.after_blocks):
        return BlockKind.HEAD
    if _points(exit_) < _points(entry):
        return BlockKind.DOWNSAMPLE
    if _attends(flow, region.steps) or (exit_.layout is Layout.TOKENS and site.role is Role.BLOCK):
        return BlockKind.TRANSFORMER
    return BlockKind.RESIDUAL if adds_shortcut(tree, region) else BlockKind.PLAIN


def _is_tied(tree: Hierarchy, site: Site) -> bool:
    """Return whether the site's module runs several times: a head over a pyramid is worth replacing."""
    return site.call is not None and len(tree.flow.recording.calls_of(tree.calls[site.call].path)) > 1


def _points(spec: TensorSpec) -> int:
    points = spec.batch
    for size in spec.spatial:
        points *= size
    return points


def _attends(flow: Flow, steps: Iterable[int]) -> bool:
    names = {_operation(flow, flow.steps[i]) for i in steps}
    attention = {"multiheadattention", "scaled_dot_product_attention"}
    return bool(names & attention) or ("softmax" in names and bool(names & {"matmul", "bmm", "einsum"}))


def _operation(flow: Flow, step: Step) -> str:
    if step.kind is StepKind.MODULE:
        return type(flow.recording.model.get_submodule(step.target)).__name__.lower()
    return step.name.lower()


def _parameters(flow: Flow, region: Region) -> int:
    found: dict[int, int] = {}
    model = flow.recording.model
    for index in [*region.steps, *flow.constants_of(region.steps, region.sides)]:
        step = flow.steps[index]
        owned: list[Any] = []
        if step.kind is StepKind.MODULE:
            owned = list(model.get_submodule(step.target).parameters())
        elif step.kind is StepKind.ATTRIBUTE:
            owned = [p for p in [_parameter(model, step.target)] if p is not None]
        found.update({id(p): p.numel() for p in owned})
    return sum(found.values())


def _parameter(model: nn.Module, path: str) -> nn.Parameter | None:
    owner, _, name = path.rpartition(".")
    try:
        value = getattr(model.get_submodule(owner), name, None)
    except AttributeError:
        return None
    return value if isinstance(value, nn.Parameter) else None


def signature(flow: Flow, region: Region) -> str:
    """Hash what a region costs: its operations, their settings and shapes; names and weights are left out."""
    constants = flow.constants_of(region.steps, region.sides)
    number = {i: n for n, i in enumerate((region.entry, *region.sides, *sorted((*constants, *region.steps))))}
    digest = hashlib.sha256(repr(_value_signature(flow.steps[region.entry])).encode())
    for index in sorted((*constants, *region.steps)):
        step = flow.steps[index]
        args = map_leaves(
            (step.args, step.kwargs), lambda leaf: f"%{number[leaf.index]}" if isinstance(leaf, Ref) else leaf
        )
        digest.update(repr((step.kind.value, _what(flow, step), args, _value_signature(step))).encode())
    digest.update(f"%{number[region.exit]}".encode())
    return digest.hexdigest()[:16]


def _what(flow: Flow, step: Step) -> str:
    if step.kind is StepKind.MODULE:
        module = flow.recording.model.get_submodule(step.target)
        sizes = [tuple(p.shape) for p in module.parameters()]
        return f"{type(module).__qualname__} {module!r} {sizes}"
    return "" if step.kind is StepKind.ATTRIBUTE else step.name


def _value_signature(step: Step) -> tuple[Any, ...]:
    return step.shape, str(step.dtype), step.batch_dims
