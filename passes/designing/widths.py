"""Which basic block is fast at which width: rows of each, timed beside the teacher (GENet section 3.2, figure 3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ...op_library.families.superblock import BL, DW, XX, SuperBlock
from ...op_library.tensor_spec import TensorSpec
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Count, Pass, PassResult
from ..latency.workbench import combined
from ..reporting.figures.charts import Series, scatter
from ..reporting.figures.keep import keep
from .records import WidthRecord
from .timing import bench_of, opened, teacher_ms

_RATIOS = (0.125, 0.25, 0.5, 1.0)
_FULL, _NARROW = 5, 10
"""Basic blocks in a row: two full convolutions each, or one of three."""


@dataclass(frozen=True)
class WidthsPass(Pass):
    """Time rows of the three basic blocks over their width, and draw them; nothing is selected by it.

    The width of a depthwise block is here that of its depthwise layer, as in the paper's figure.
    """

    name: ClassVar[str] = "widths"
    requires: ClassVar[tuple[str, ...]] = ("graph",)
    ensures: ClassVar[tuple[str, ...]] = ("width",)

    widths: tuple[int, ...] = (32, 64, 128, 256)
    size: Count = 56
    """Height and width of the maps."""

    def run(self, context: Context) -> PassResult:
        """Time what is not yet in the run."""
        bench = bench_of(context)
        whole_ms = teacher_ms(context, bench)
        for width in self.widths:
            rows = {
                self._key(context, name, width): pair
                for name, pair in _rows(width, self.size, context.target.batch_size).items()
            }
            missing = {key: pair for key, pair in rows.items() if context.store.get(WidthRecord, key) is None}
            if not missing:
                continue
            inputs = [(tensor,) for _, tensor in missing.values()]
            found = bench.lower([module for module, _ in missing.values()], inputs)
            runners = [opened(runner, key) for runner, key in zip(found, missing, strict=True)]
            whole, *timings = bench.time(runners, inputs)
            for key, timing in zip(missing, timings, strict=True):
                ms = combined([timing], [1.0], whole, whole_ms).ms / context.target.batch_size
                record = WidthRecord(block=key.split("/")[1], width=width, ms=ms, estimated=timing.estimated)
                context.store.put(key, record)
        return PassResult(notes=(*self._told(context), self._draw(context)))

    def _key(self, context: Context, block: str, width: int) -> str:
        return f"{context.target.fingerprint}/{block}/{width}/{self.size}"

    def _found(self, context: Context) -> dict[str, list[WidthRecord]]:
        """Return the records of this target and size by block, each over the widths."""
        names = dict.fromkeys(_rows(8, 8, 1))
        known = context.store.all(WidthRecord)
        return {name: [known[self._key(context, name, width)] for width in self.widths] for name in names}

    def _told(self, context: Context) -> Iterator[str]:
        found = self._found(context)
        for place, width in enumerate(self.widths):
            best = min(found, key=lambda name: found[name][place].ms)
            mark = "~" if found[best][place].estimated else ""
            yield f"{width} channels: {best} is fastest, {mark}{found[best][place].ms:.4g} ms an image"

    def _draw(self, context: Context) -> str:
        series = [
            Series(
                name,
                [(float(record.width), record.ms) for record in records],
                [f"{record.ms:.4g} ms" for record in records],
                joined=True,
            )
            for name, records in self._found(context).items()
        ]
        estimated = any(record.estimated for record in context.store.all(WidthRecord).values())
        title = f"Rows of basic blocks on {context.target.name}" + (" (estimates)" if estimated else "")
        return keep(
            context.store, "widths", title, scatter(series, ("channels", "ms an image"), title, log_y=True)
        ).file


def _rows(width: int, size: int, batch: int) -> dict[str, tuple[nn.Module, Tensor]]:
    """Return the rows of one width with their inputs, by name."""
    blocks: dict[str, tuple[SuperBlock, int]] = {"xx": (XX(kernel=3, depth=_FULL), width)}
    for ratio in _RATIOS:
        blocks[f"bl r {ratio:g}"] = (BL(kernel=3, ratio=ratio, depth=_NARROW), width)
        outer = max(1, round(ratio * width))
        blocks[f"dw r {ratio:g}"] = (DW(kernel=3, ratio=width / outer, depth=_NARROW), outer)
    return {
        name: (
            block.blocks(channels, channels, (1, 1), last=True).eval(),
            TensorSpec((channels, size, size)).random(batch),
        )
        for name, (block, channels) in blocks.items()
    }
