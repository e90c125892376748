"""How a feature map's size changes from a block's input to its output."""

from __future__ import annotations

from dataclasses import dataclass

from .tensor_spec import Layout, TensorSpec

Size = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """Sizes of a replacement that maps (N, C, H, W) to (N, C', H', W').

    A convolution of odd kernel k, stride s and padding k // 2 gives ceil(H / s) rows. Where no stride gives
    the output's size that way (blocks without padding, or that round down), the map is first cropped around its
    centre to ``cropped``, the largest size that a stride brings to the output's.
    """

    in_channels: int
    out_channels: int
    in_size: Size
    out_size: Size
    stride: Size
    cropped: Size

    @property
    def residual(self) -> bool:
        """Whether input and output have one shape, so that the input can be added to the output."""
        return self.in_channels == self.out_channels and self.in_size == self.out_size

    @property
    def strided(self) -> bool:
        """Whether the operation has to reduce the map by a stride."""
        return self.stride != (1, 1)

    @property
    def crops(self) -> bool:
        """Whether the map is cropped before the operation."""
        return self.cropped != self.in_size

    @classmethod
    def between(cls, input: TensorSpec, output: TensorSpec) -> Geometry:
        """Return the geometry between two specs for which ``misfit`` is None."""
        in_size, out_size = _size(input), _size(output)
        rows = _reduce(in_size[0], out_size[0])
        columns = _reduce(in_size[1], out_size[1])
        return cls(
            in_channels=input.channels,
            out_channels=output.channels,
            in_size=in_size,
            out_size=out_size,
            stride=(rows[0], columns[0]),
            cropped=(rows[1], columns[1]),
        )


def misfit(input: TensorSpec, output: TensorSpec) -> str | None:
    """Return why no operation on maps or tokens can stand between two specs; None if one can."""
    reason = _unlike(input, output)
    if reason is not None:
        return reason
    if input.layout is Layout.TOKENS:
        if len(input.shape) != 2 or len(output.shape) != 2:
            return f"tokens need 2 dimensions (L, C) besides the batch, got {len(input.shape)} and {len(output.shape)}"
        if input.spatial != output.spatial:
            return f"the number of tokens changes from {input.spatial[0]} to {output.spatial[0]}"
        return None
    if len(input.shape) != 3 or len(output.shape) != 3:
        return f"a feature map needs 3 dimensions besides the batch, got {len(input.shape)} and {len(output.shape)}"
    if any(after > before for before, after in zip(input.spatial, output.spatial, strict=True)):
        before, after = ("x".join(map(str, spec.spatial)) for spec in (input, output))
        return f"the map grows from {before} to {after}; no operation upsamples"
    return None


def _unlike(input: TensorSpec, output: TensorSpec) -> str | None:
    if input.layout is not output.layout:
        return f"the layout changes from {input.layout} to {output.layout}"
    if input.layout is Layout.FLAT:
        return "a flat tensor is neither a feature map nor a sequence of tokens"
    if input.dtype != output.dtype:
        return f"the type changes from {input.dtype} to {output.dtype}"
    if not input.torch_dtype.is_floating_point:
        return f"type {input.dtype} is not floating point"
    if input.batch != output.batch:
        return f"rows per sample change from {input.batch} to {output.batch}"
    if min((*input.shape, *output.shape), default=1) < 1:
        return "a dimension is empty"
    return None


def _size(spec: TensorSpec) -> Size:
    """Return (H, W) of a map; tokens count as a map of one column."""
    if spec.layout is Layout.TOKENS:
        return spec.spatial[0], 1
    return spec.spatial[0], spec.spatial[1]


def _reduce(before: int, after: int) -> Size:
    """Return (stride, size to crop to) that brings ``before`` to ``after`` <= ``before`` rows."""
    stride = -(-before // after)
    if -(-before // stride) == after:
        return stride, before
    stride = before // after
    return stride, stride * after
