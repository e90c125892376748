"""Slices of the block's own layers: fewer inner channels, smaller kernels (once-for-all networks)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ...transformer.errors import UnfitError
from ..channels import Channels
from ..family import NUMBER, PatternFamily
from ..op_spec import DerivedSpec
from ..slicing import has_larger_kernel, in_order, narrowed, sliceable_channels, table, try_out, width_of
from ..tensor_spec import TensorSpec

WIDTHS = (1.0, 0.75, 0.5, 0.25)
"""Widths of the full pool. Of those that come to the same channels the widest is the operation."""


@dataclass(frozen=True)
class Slice(DerivedSpec):
    """The block with a part of its inner channels, the strongest, and of its larger kernels the centres."""

    family: ClassVar[str] = "slice"
    elastic: ClassVar[str] = "width"

    width: float = 1.0
    """Share of the inner channels."""
    kernel: int = 0
    """Largest kernel; 0 for kernels as they are."""

    @property
    def name(self) -> str:
        """E.g. ``slice_w0.5_k3``; ``teacher`` is what nothing is taken from."""
        width = f"_w{self.width:g}" if self.width != 1 else ""
        kernel = f"_k{self.kernel}" if self.kernel else ""
        return f"slice{width}{kernel}" if width or kernel else "teacher"

    def derive(self, module: nn.Module, calls: Sequence[tuple[TensorSpec, TensorSpec]]) -> nn.Module:
        """Copy the strongest channels and the centres of the kernels.

        Raises:
            UnfitError: nothing can be taken away, or another operation is the same; the message says what.
        """
        if len(calls) > 1:
            raise UnfitError(f"the network runs the block {len(calls)} times, and slices are made for one call")
        (input, output), *_ = calls
        try:
            channels = sliceable_channels(module, input)
        except Exception as error:  # the block's own code may raise anything
            reason = (str(error).strip().splitlines() or [""])[0]
            raise UnfitError(f"the block cannot be run by itself: {type(error).__name__}: {reason}") from error
        self._check(module, channels)
        ordered = in_order(module, channels)
        narrow = narrowed(ordered, table(ordered, channels, self.width, self.kernel))
        try_out(narrow, input, output)
        for parameter in narrow.parameters():  # frozen ones of the teacher have to follow what is left out
            parameter.requires_grad_(parameter.is_floating_point())
        return narrow

    def _check(self, module: nn.Module, channels: Sequence[Channels]) -> None:
        """Refuse what is the same as another operation."""
        free = [group for group in channels if not group.fixed]
        widths = [width_of(group, self.width) for group in free]
        crops = has_larger_kernel(module, self.kernel)
        if self.width < 1 and not free:
            reasons = list(dict.fromkeys(group.fixed for group in channels))[:3]
            raise UnfitError("no inner channels to take away: " + ("; ".join(reasons) or "no layer makes any"))
        if self.kernel and not crops and self.width == 1:
            raise UnfitError(f"no kernel above {self.kernel}x{self.kernel} that has a centre")
        wider = [w for w in WIDTHS if w > self.width and [width_of(group, w) for group in free] == widths]
        same = Slice(wider[0] if wider else self.width, self.kernel if crops else 0)
        if same != self:
            told = ", ".join(f"{kept} of {group.size}" for kept, group in zip(widths, free, strict=True))
            raise UnfitError(f"is the same as {same.name} here, with {told or 'all'} channels")


def _make(groups: tuple[str, ...]) -> Slice | None:
    width, kernel = float(groups[0] or 1), int(groups[1] or 0)
    spec = Slice(width, kernel)
    even = kernel and (kernel % 2 == 0 or kernel < 3)
    return None if even or not 0 < width <= 1 or spec == Slice() else spec


_MEMBERS = tuple(Slice(width, kernel) for kernel in (0, 3) for width in WIDTHS if width < 1 or kernel)
slices = PatternFamily("slice", _MEMBERS, rf"slice(?:_w{NUMBER})?(?:_k(\d+))?", _make)
