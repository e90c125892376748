import pytest
import torch
from hant.op_library.cost import macs, parameters
from hant.op_library.tensor_spec import TensorSpec
from torch import nn


def test_macs_of_a_convolution_by_hand() -> None:
    conv = nn.Conv2d(6, 12, 3, stride=2, padding=1, groups=3)
    assert macs(conv, TensorSpec((6, 9, 7))) == 12 * 5 * 4 * (6 // 3) * 9


def test_macs_count_the_rows_of_one_sample() -> None:
    assert macs(nn.Linear(5, 7), TensorSpec((5,), batch=4)) == 4 * 5 * 7


def test_counting_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    module[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    macs(module, TensorSpec((3, 8, 8)))
    assert module.training
    assert not module[1].training
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("size", [1, 5])
def test_shared_parameters_count_once(size: int) -> None:
    layer = nn.Linear(size, size)
    assert parameters(nn.Sequential(layer, layer)) == size * size + size
