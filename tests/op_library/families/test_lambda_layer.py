import pytest
import torch
from hant.op_library.families.lambda_layer import DEPTH, LambdaConvolution
from hant.op_library.pools import operation
from hant.op_library.tensor_spec import TensorSpec
from torch import nn


def test_lambda_layer_against_its_definition() -> None:
    """Each query meets a linear map summed over the context: by content (keys) and by relative position."""
    height, width, heads, values = 3, 4, 4, 2
    layer = LambdaConvolution(heads * values, (height, width)).double().eval()
    x = torch.randn(1, heads * values, height, width, dtype=torch.float64)
    query = layer.query(x)[0].flatten(1).unflatten(0, (heads, DEPTH))
    key = layer.key(x)[0].flatten(1).softmax(1)
    value = layer.value(x)[0].flatten(1)
    table = layer.positions.weight[:, 0]
    assert layer.positions.bias is not None
    expected = torch.zeros(heads, values, height * width, dtype=torch.float64)
    for n in range(height * width):
        applied = layer.positions.bias[:, None].expand(DEPTH, values).clone()
        for m in range(height * width):
            down, right = m // width - n // width, m % width - n % width
            position = table[:, down + height - 1, right + width - 1]
            applied += torch.outer(key[:, m] + position, value[:, m])
        expected[:, :, n] = query[:, :, n] @ applied
    torch.testing.assert_close(layer(x)[0], expected.view(-1, height, width))


@pytest.mark.parametrize(("size", "reach"), [(7, 13), (12, 23), (33, 23), (1, 1)])
def test_positions_reach_23_or_as_far_as_the_map(size: int, reach: int) -> None:
    module = operation("lambda_e1").build(TensorSpec((8, size, size)), TensorSpec((8, size, size)))
    (layer,) = (part for part in module.modules() if isinstance(part, LambdaConvolution))
    assert layer.positions.kernel_size == (reach, reach)


def test_stride_is_pooled_behind_the_layer() -> None:
    module = operation("lambda_e1").build(TensorSpec((8, 9, 9)), TensorSpec((8, 5, 5)))
    order = [type(part).__name__ for part in module.modules()]
    assert order.index("LambdaConvolution") < order.index("AvgPool2d")
    assert sum(isinstance(part, nn.AvgPool2d) for part in module.modules()) == 1
