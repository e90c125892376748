"""Export many modules of which most are the same: each distinct part of a sequence goes through the exporter once.

Operations are timed between their neighbours, so a hundred sequences share two of their three parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
import onnx.compose
import torch
from torch import Tensor, nn

from ...transformer.errors import CaptureError
from ...transformer.tools.modes import evaluating
from .export import export_many

_TOGETHER = 24  # modules of one exporter call: enough to share its fixed cost, few enough to bound memory
_Key = tuple[int, tuple[int, ...], torch.dtype]


@dataclass(frozen=True, eq=False)
class _Part:
    module: nn.Module
    input: Tensor

    @property
    def key(self) -> _Key:
        return id(self.module), tuple(self.input.shape), self.input.dtype


def export_chains(modules: Sequence[nn.Module], inputs: Sequence[Tensor]) -> list[onnx.ModelProto | CaptureError]:
    """Return a graph for each module of one input and one output, or why there is none."""
    chains = [_parts(module, tensor) for module, tensor in zip(modules, inputs, strict=True)]
    distinct = {part.key: part for chain in chains if not isinstance(chain, CaptureError) for part in chain}
    graphs = _export(list(distinct.values()))
    return [
        chain if isinstance(chain, CaptureError) else _join([graphs[part.key] for part in chain]) for chain in chains
    ]


def _parts(module: nn.Module, tensor: Tensor) -> list[_Part] | CaptureError:
    """Return the members of a sequence with the input that each gets; any other module is its own only part."""
    members = list(module) if type(module) is nn.Sequential else [module]
    if len(members) == 1:
        return [_Part(members[0], tensor)]
    parts: list[_Part] = []
    with evaluating(module), torch.no_grad():
        for member in members:
            parts.append(_Part(member, tensor))
            try:
                tensor = member(tensor)
            except Exception as error:  # the user's code may raise anything
                return CaptureError(f"cannot run {type(member).__name__} on {tuple(tensor.shape)}: {error}")
    return parts


def _export(parts: Sequence[_Part]) -> dict[_Key, onnx.ModelProto | CaptureError]:
    found: dict[_Key, onnx.ModelProto | CaptureError] = {}
    for start in range(0, len(parts), _TOGETHER):
        some = parts[start : start + _TOGETHER]
        graphs = export_many([part.module for part in some], [part.input for part in some])
        found.update(zip((part.key for part in some), graphs, strict=True))
    return found


def _join(graphs: Sequence[onnx.ModelProto | CaptureError]) -> onnx.ModelProto | CaptureError:
    """Return the graphs one after the other as one; or the first reason why a part has none."""
    whole: onnx.ModelProto | None = None
    for index, graph in enumerate(graphs):
        if isinstance(graph, CaptureError):
            return graph
        part = onnx.compose.add_prefix(graph, f"{index}/") if len(graphs) > 1 else graph
        if whole is None:
            whole = part
        else:
            seam = [(whole.graph.output[0].name, part.graph.input[0].name)]
            whole = onnx.compose.merge_models(whole, part, io_map=seam)
    assert whole is not None, "a module has at least one part"
    return whole
