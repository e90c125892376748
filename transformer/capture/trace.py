"""From a model to a graph with blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...op_library.tensor_spec import TensorSpec
from ..errors import CaptureError, UsageError, nearest
from ..ir.block import Block, Diagnostic
from ..ir.graph import Graph
from ..rewrite.rewriter import replace_blocks
from ..tools.wildcards import matches
from ..tools.wrappers import unwrapped
from .arguments import checked
from .blocks.chains import find_runs
from .blocks.choose import Chooser, Granularity
from .blocks.flow import Flow
from .blocks.hierarchy import Hierarchy
from .blocks.leftover import leftovers
from .blocks.make import make_block, positions, spec_or_fixed
from .blocks.region import Site
from .blocks.repetition import find_repetition
from .blocks.tied import tie
from .outline import outline
from .part import part_of
from .recording.record import record
from .structure import structure_digest


def trace(
    model: nn.Module,
    example_inputs: Any,
    *,
    submodule: str = "",
    granularity: Granularity = "block",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Graph:
    """Capture ``model`` exactly and find its blocks.

    Args:
        model: the teacher; left as it was, its parameters are shared, not copied. Of ``nn.DataParallel`` and the like
            the network inside is captured.
        example_inputs: one tensor (B, ...), or a sequence of the model's arguments: tensors, or tuples, lists and dicts
            of them. Only shapes and types matter, dimension 0 is the batch.
        submodule: path of the part to capture, such as ``backbone``; what it is given when the whole model runs on
            ``example_inputs`` is what it is captured for. ``Graph.whole`` is the model with that part in place.
        granularity: ``block`` for what a designer would name, ``fine`` for their parts, ``stage`` for whole stages.
        include: patterns such as ``layer3.*``; other blocks are not replaceable.
        exclude: patterns of blocks that are not replaceable.

    Raises:
        CaptureError: the network cannot be captured exactly; the message names the module, line and operation.
    """
    inputs, host, model = checked(example_inputs), None, unwrapped(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise CaptureError(
            "the model is a TorchScript program, whose code is not PyTorch's to follow; give the module that it was "
            "made from: its weights (model.state_dict()) and --arch"
        )
    if submodule:
        host = model
        model, inputs = part_of(model, submodule, inputs)
    flow = Flow(record(model, inputs))
    tree = Hierarchy(flow)
    chooser = Chooser(tree, find_repetition(tree), granularity)
    sites = chooser.choose()
    sites = sorted([*sites, *find_runs(flow, sites, merge=granularity != "fine")], key=lambda site: site.region.exit)
    sites = [site.beside(flow.drawn_for(site.region.steps)) for site in sites]
    blocks: dict[Site, Block] = {}
    diagnostics = [Diagnostic(where or "network", reason, source) for where, reason, source in flow.recording.notes]
    diagnostics += [Diagnostic(where, reason) for where, reason in chooser.refused]
    chosen = _Pattern(include, exclude)
    for site, position in zip(sites, positions(flow, sites), strict=True):
        block = make_block(tree, site, position)
        if isinstance(block, Block):
            blocks[site] = block
        else:
            diagnostics.append(Diagnostic(site.name, block))
    diagnostics += tie(tree, blocks)
    diagnostics += [_beside(flow, site) for site in blocks if site.region.sides]
    diagnostics += leftovers(tree, (index for site in sites for index in site.region.steps))
    blocks = {
        site: block if chosen(block.name) else replace(block, replaceable=False) for site, block in blocks.items()
    }
    chosen.check([block.name for block in blocks.values()])
    return Graph(
        rewriter=replace_blocks,
        module=outline(flow, blocks, type(model).__name__),
        blocks=tuple({block.name: block for block in blocks.values()}.values()),
        inputs=_input_specs(flow),
        diagnostics=tuple(dict.fromkeys(diagnostics)),
        macs=flow.macs(flow.data),
        parameters=sum(p.numel() for p in model.parameters()),
        eager=None if flow.recording.returns_more else model,
        host=host,
        path=submodule,
        structure=structure_digest(flow.recording, inputs),
    )


def _beside(flow: Flow, site: Site) -> Diagnostic:
    names = ", ".join(flow.steps[side].name for side in site.region.sides)
    return Diagnostic(site.name, f"it reads {names} beside its input; what replaces it does without")


class _Pattern:
    """Which blocks the user lets be replaced."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        self.include, self.exclude = include, exclude

    def __call__(self, name: str) -> bool:
        wanted = not self.include or any(matches(name, p) for p in self.include)
        return wanted and not any(matches(name, p) for p in self.exclude)

    def check(self, names: Sequence[str]) -> None:
        """Refuse a pattern that matches nothing: it is a typing error."""
        for pattern in (*self.include, *self.exclude):
            if not any(matches(name, pattern) for name in names):
                raise UsageError(f"pattern {pattern!r} matches no block{nearest(pattern, names)}")


def _input_specs(flow: Flow) -> tuple[TensorSpec, ...]:
    return tuple(spec_or_fixed(flow, index) for index in flow.recording.inputs)
