import pytest
from hant.op_library.cost import macs
from hant.op_library.layers import Residual, SqueezeExcite
from hant.op_library.pools import operation
from hant.op_library.tensor_spec import TensorSpec
from torch import nn

BEFORE, AFTER = TensorSpec((24, 14, 14)), TensorSpec((40, 7, 7))


def convolutions(module: nn.Module) -> list[tuple[int, int, int, int, int]]:
    """Input channels, output channels, kernel, stride and groups of each convolution, gates left out."""
    gates = {id(part) for gate in module.modules() if isinstance(gate, SqueezeExcite) for part in gate.modules()}
    return [
        (part.in_channels, part.out_channels, part.kernel_size[0], part.stride[0], part.groups)
        for part in module.modules()
        if isinstance(part, nn.Conv2d) and id(part) not in gates
    ]


def test_efn_expands_filters_by_channel_and_projects() -> None:
    module = operation("efn_5x5_e6_se1.00").build(BEFORE, AFTER)
    assert convolutions(module) == [(24, 144, 1, 1, 1), (144, 144, 5, 2, 144), (144, 40, 1, 1, 1)]


def test_efn_without_expansion_has_no_expansion_layer() -> None:
    module = operation("efn_3x3_e1_se1.00").build(BEFORE, AFTER)
    assert convolutions(module) == [(24, 24, 3, 2, 24), (24, 40, 1, 1, 1)]


@pytest.mark.parametrize("expansion", [1, 3, 6])
def test_efnv2_expands_with_a_dense_kernel_and_projects(expansion: int) -> None:
    module = operation(f"efnv2_3x3_e{expansion}_se1.00").build(BEFORE, AFTER)
    inner = 24 * expansion
    assert convolutions(module) == [(24, inner, 3, 2, 1), (inner, 40, 1, 1, 1)]


@pytest.mark.parametrize("family", ["efn", "efnv2"])
@pytest.mark.parametrize(("squeeze", "channels"), [("0.25", 6), ("0.04", 1)])
def test_squeeze_counts_from_the_input(family: str, squeeze: str, channels: int) -> None:
    module = operation(f"{family}_3x3_e3_se{squeeze}").build(BEFORE, AFTER)
    (gate,) = (part for part in module.modules() if isinstance(part, SqueezeExcite))
    assert (gate.reduce.in_channels, gate.reduce.out_channels) == (72, channels)


def test_factor_one_means_no_squeeze() -> None:
    module = operation("efn_3x3_e3_se1.00").build(BEFORE, AFTER)
    assert not any(isinstance(part, SqueezeExcite | nn.AdaptiveAvgPool2d) for part in module.modules())


def test_activation_is_silu_and_the_end_is_linear() -> None:
    module = operation("efn_3x3_e3_se1.00").build(BEFORE, BEFORE)
    assert isinstance(module, Residual)
    parts = [type(part) for part in module.modules() if not list(part.children())]
    assert parts == [nn.Conv2d, nn.BatchNorm2d, nn.SiLU] * 2 + [nn.Conv2d, nn.BatchNorm2d]


def test_teachers_activation_takes_its_place() -> None:
    module = operation("efn_3x3_e3_se0.25_relu").build(BEFORE, AFTER)
    assert sum(isinstance(part, nn.ReLU) for part in module.modules()) == 3
    assert not any(isinstance(part, nn.SiLU) for part in module.modules())


def test_macs_by_hand() -> None:
    module = operation("efn_3x3_e6_se1.00").build(BEFORE, AFTER)
    assert macs(module, BEFORE) == 14 * 14 * 24 * 144 + 7 * 7 * 144 * 9 + 7 * 7 * 144 * 40
