import pytest
from hant.op_library.geometry import Geometry, misfit
from hant.op_library.tensor_spec import Layout, TensorSpec


@pytest.mark.parametrize(
    ("before", "after", "stride", "cropped"),
    [
        (32, 32, 1, 32),
        (32, 16, 2, 32),
        (33, 17, 2, 33),
        (7, 4, 2, 7),
        (7, 1, 7, 7),
        (33, 16, 2, 32),
        (35, 33, 1, 33),
        (5, 2, 3, 5),
        (1, 1, 1, 1),
    ],
)
def test_stride_and_crop(before: int, after: int, stride: int, cropped: int) -> None:
    geometry = Geometry.between(TensorSpec((4, before, 32)), TensorSpec((4, after, 32)))
    assert (geometry.stride, geometry.cropped) == ((stride, 1), (cropped, 32))


def test_every_smaller_size_is_reached() -> None:
    for before in range(1, 40):
        for after in range(1, before + 1):
            geometry = Geometry.between(TensorSpec((1, before, before)), TensorSpec((1, after, after)))
            assert -(-geometry.cropped[0] // geometry.stride[0]) == after
            assert geometry.cropped[0] <= before


MAP = TensorSpec((4, 8, 8))


@pytest.mark.parametrize(
    ("input", "output", "reason"),
    [
        (TensorSpec((4, 4, 4)), MAP, "the map grows from 4x4 to 8x8; no operation upsamples"),
        (MAP, TensorSpec((10,), layout=Layout.FLAT), "the layout changes from nchw to flat"),
        (TensorSpec((4,), layout=Layout.FLAT), TensorSpec((4,), layout=Layout.FLAT), "neither a feature map"),
        (MAP, TensorSpec((4, 8, 8), dtype="float16"), "the type changes from float32 to float16"),
        (TensorSpec((4, 8, 8), dtype="int64"), TensorSpec((4, 8, 8), dtype="int64"), "int64 is not floating point"),
        (TensorSpec((4, 8, 8), batch=4), MAP, "rows per sample change from 4 to 1"),
        (TensorSpec((4, 2, 8, 8)), TensorSpec((4, 2, 8, 8)), "needs 3 dimensions besides the batch, got 4 and 4"),
        (TensorSpec((8, 4), layout=Layout.TOKENS), TensorSpec((2, 8), layout=Layout.TOKENS), "from 8 to 2"),
        (TensorSpec((4, 0, 8)), TensorSpec((4, 0, 8)), "a dimension is empty"),
        (MAP, TensorSpec((6, 4, 8)), None),
    ],
)
def test_misfit_gives_the_reason(input: TensorSpec, output: TensorSpec, reason: str | None) -> None:
    found = misfit(input, output)
    assert found is None if reason is None else found is not None and reason in found
