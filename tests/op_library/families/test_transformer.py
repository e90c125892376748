import pytest
import torch
from hant.op_library.attention import RelativeAttention, SelfAttention
from hant.op_library.geometry import Geometry
from hant.op_library.patches import MapTransformer, PatchGrid
from hant.op_library.pools import operation
from hant.op_library.tensor_spec import TensorSpec
from hant.transformer.errors import UsageError
from torch import nn


def grid(size: int, after: int) -> PatchGrid:
    return PatchGrid.smallest(Geometry.between(TensorSpec((4, size, size)), TensorSpec((4, after, after))), 256)


@pytest.mark.parametrize(
    ("size", "after", "expected"),
    [
        (7, 7, PatchGrid((7, 7), 1)),
        (16, 16, PatchGrid((16, 16), 1)),
        (17, 17, PatchGrid((9, 9), 2)),
        (56, 28, PatchGrid((14, 14), 2)),
        (112, 112, PatchGrid((16, 16), 7)),
    ],
)
def test_patches_are_the_smallest_that_give_256_tokens(size: int, after: int, expected: PatchGrid) -> None:
    assert grid(size, after) == expected


@pytest.mark.parametrize(("size", "after"), [(33, 33), (33, 17), (40, 20), (35, 33)])
def test_a_patch_of_the_output_stands_where_its_input_was(size: int, after: int) -> None:
    """With a transformer that passes its tokens on, a bright pixel of the input makes its own patch bright."""
    border = TensorSpec((1, size, size)), TensorSpec((1, after, after))
    module = next(
        part for part in operation("vit_d1_w32_h4").build(*border).modules() if isinstance(part, MapTransformer)
    )
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.layers = nn.Sequential()
        module.embed.weight.fill_(1)
        module.project.weight.fill_(1)
    geometry = Geometry.between(*border)
    stride, patch = geometry.stride[0], grid(size, after).patch
    for row in range(0, geometry.cropped[0], 5):
        x = torch.zeros(1, 1, *geometry.cropped)
        x[0, 0, row, row] = 1
        bright = module(x)[0, 0].nonzero()[:, 0]
        assert bright.min() <= row / stride <= bright.max() + 1
        assert bright.max() - bright.min() < patch


def test_depth_width_and_heads() -> None:
    module = operation("vit_d2_w64_h8").build(TensorSpec((8, 7, 7)), TensorSpec((8, 7, 7)))
    attention = [part for part in module.modules() if isinstance(part, SelfAttention)]
    assert [(part.project_in.in_features, part.heads) for part in attention] == [(64, 8)] * 2


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(UsageError, match="unknown operation 'vit_d1_w30_h4'"):
        operation("vit_d1_w30_h4")


def test_relative_attention_against_its_definition() -> None:
    height, width, heads, depth = 3, 5, 2, 4
    layer = RelativeAttention(heads * depth, heads, (height, width)).double()
    x = torch.randn(1, heads * depth, height, width, dtype=torch.float64)
    query, key, value = layer.project(x).unflatten(1, (3, heads, depth))[0]
    expected = torch.zeros(heads, depth, height, width, dtype=torch.float64)
    for head in range(heads):
        for row in range(height):
            for column in range(width):
                q = query[head, :, row, column] * depth**-0.5
                logits = torch.stack(
                    [
                        q @ key[head, :, r, c]
                        + q @ layer.row_positions[r - row + height - 1]
                        + q @ layer.column_positions[c - column + width - 1]
                        for r in range(height)
                        for c in range(width)
                    ]
                )
                expected[head, :, row, column] = value[head].flatten(1) @ logits.softmax(0)
    torch.testing.assert_close(layer(x)[0], expected.flatten(0, 1))


def test_bot_trans_refuses_maps_that_take_too_much_memory() -> None:
    large = TensorSpec((8, 112, 112))
    assert operation("bot_trans_e1").unfit(large, large) == (
        "attention among 112x112 = 12544 positions takes 2518 MB per sample; at most 1600 positions"
    )
    assert operation("bot_trans_e1").unfit(TensorSpec((8, 33, 33)), TensorSpec((8, 33, 33))) is None


@pytest.mark.parametrize(("expansion", "inner"), [("0.25", 4), ("1", 8), ("4", 40)])
def test_inner_channels_are_a_multiple_of_the_heads(expansion: str, inner: int) -> None:
    module = operation(f"bot_trans_e{expansion}").build(TensorSpec((6, 7, 7)), TensorSpec((10, 7, 7)))
    (attention,) = (part for part in module.modules() if isinstance(part, RelativeAttention))
    assert attention.project.in_channels == inner
