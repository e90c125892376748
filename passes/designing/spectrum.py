"""The rank profile of a network: singular values of its kernels by stage (GENet section 3.3). A diagnosis only.

The paper looks at the last convolution of each stage of a few networks, sees its singular values fall faster in high
stages, and concludes that these need no full convolutions. On pretrained ResNets of CIFAR-10 the fall is the network's
very last convolution's alone (docs/genet.md). So all layers are told here, and nothing is selected by it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Pass, PassResult
from ...transformer.ir.graph import Graph
from ..reporting.figures.charts import Series, scatter
from ..reporting.figures.keep import keep
from ..reporting.records import FigureRecord
from ..selecting.weightings import stages
from .records import SpectrumRecord


@dataclass(frozen=True)
class SpectrumPass(Pass):
    """Write the singular values of every dense convolution larger than 1x1, and draw them by stage."""

    name: ClassVar[str] = "spectrum"
    requires: ClassVar[tuple[str, ...]] = ("graph",)
    ensures: ClassVar[tuple[str, ...]] = ("spectrum",)

    def run(self, context: Context) -> PassResult:
        """Look at the weights; nothing is trained or measured."""
        found = dict(spectra(context.teacher))
        with context.store.transaction():
            context.store.delete(SpectrumRecord)
            for name, record in found.items():
                context.store.put(name, record)
        dense = {name: record for name, record in found.items() if not record.reason}
        notes = [*_told(list(dense.values())), f"{len(found) - len(dense)} grouped or 1x1 convolutions are left out"]
        if dense:
            notes.append(_draw(context, dense).file)
        return PassResult(notes=tuple(notes))


def spectra(graph: Graph) -> Iterator[tuple[str, SpectrumRecord]]:
    """Yield every convolution of the blocks by its path, in order; those that have no dense kernel with the reason."""
    for block, stage in zip(graph.replaceable, stages(graph), strict=True):
        for path, layer in block.module.named_modules():
            if isinstance(layer, nn.Conv2d):
                name = ".".join(filter(None, (block.name, path)))
                yield name, spectrum(layer.weight, stage, layer.groups)


def spectrum(kernel: Tensor, stage: int, groups: int = 1) -> SpectrumRecord:
    """Return the spectrum of a kernel (C', C, k, k), reshaped to (C', C k k), its values over the largest."""
    shape = tuple(kernel.shape)
    reason = "grouped" if groups > 1 else "1x1" if math.prod(shape[2:]) == 1 else ""
    if reason:
        return SpectrumRecord(stage=stage, shape=shape, values=(), area=0.0, entropy_rank=0.0, reason=reason)
    values = torch.linalg.svdvals(kernel.detach().double().cpu().flatten(1))
    relative = values / values[0].clamp_min(1e-300)
    share = values / values.sum().clamp_min(1e-300)
    entropy = float(torch.special.entr(share).sum())
    return SpectrumRecord(
        stage=stage,
        shape=shape,
        values=tuple(relative.tolist()),
        area=float(relative.mean()),
        entropy_rank=math.exp(entropy) / len(values),
    )


def _told(records: list[SpectrumRecord]) -> list[str]:
    """Return the mean of the normalised spectrum by stage: of its last convolution, as the paper looks, and of all."""
    by_stage = defaultdict[int, list[SpectrumRecord]](list)
    for record in records:
        by_stage[record.stage].append(record)
    return [
        f"stage {stage + 1}: area under the spectrum {mine[-1].area:.3f} of its last convolution, "
        f"{sum(record.area for record in mine) / len(mine):.3f} of all {len(mine)}"
        for stage, mine in sorted(by_stage.items())
    ]


def _draw(context: Context, dense: dict[str, SpectrumRecord]) -> FigureRecord:
    last = {record.stage: (name, record) for name, record in dense.items()}
    series = [
        Series(
            f"stage {stage + 1}: {name}",
            [(place / len(record.values), value) for place, value in enumerate(record.values)],
            [f"{value:.4f}" for value in record.values],
        )
        for stage, (name, record) in sorted(last.items())
    ]
    title = "Singular values of the last convolution of each stage"
    svg = scatter(series, ("number of the value over output channels", "over the largest"), title)
    return keep(context.store, "spectrum", title, svg)
