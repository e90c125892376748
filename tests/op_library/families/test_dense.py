import pytest
from hant.op_library.cost import macs, parameters
from hant.op_library.pools import operation
from hant.op_library.tensor_spec import TensorSpec
from torch import nn

BEFORE, AFTER = TensorSpec((16, 14, 14)), TensorSpec((32, 7, 7))
SHORT = {nn.Conv2d: "C", nn.BatchNorm2d: "B", nn.ReLU: "R", nn.ChannelShuffle: "S"}


def letters(module: nn.Module) -> str:
    return "".join(SHORT[type(part)] for part in module.modules() if not list(part.children()))


def convolutions(module: nn.Module) -> list[tuple[int, int, int, int, int]]:
    return [
        (part.in_channels, part.out_channels, part.kernel_size[0], part.stride[0], part.groups)
        for part in module.modules()
        if isinstance(part, nn.Conv2d)
    ]


@pytest.mark.parametrize(
    ("name", "structure"),
    [
        ("cb_stack_3x3_ex0.5", "CBRCB"),
        ("cb_bottle_3x3_ex0.5", "CBRCBRCB"),
        ("cb_res_3x3", "CB"),
        ("conv_cs_3x3", "CBRSCB"),
    ],
)
def test_layers_are_the_papers(name: str, structure: str) -> None:
    assert letters(operation(name).build(BEFORE, AFTER)) == structure


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cb_stack_5x5_ex0.5", [(16, 16, 5, 2, 1), (16, 32, 5, 1, 1)]),
        ("cb_bottle_5x5_ex0.25", [(16, 8, 1, 1, 1), (8, 8, 5, 2, 1), (8, 32, 1, 1, 1)]),
        ("cb_res_7x7", [(16, 32, 7, 2, 1)]),
        ("conv_cs_3x3", [(16, 32, 3, 2, 4), (32, 32, 3, 1, 4)]),
    ],
)
def test_widths_count_from_the_output(name: str, expected: list[tuple[int, int, int, int, int]]) -> None:
    assert convolutions(operation(name).build(BEFORE, AFTER)) == expected


@pytest.mark.parametrize(("before", "after", "groups"), [(16, 32, 4), (6, 10, 2), (16, 9, 1)])
def test_groups_of_conv_cs_divide_the_channels(before: int, after: int, groups: int) -> None:
    module = operation("conv_cs_3x3").build(TensorSpec((before, 8, 8)), TensorSpec((after, 8, 8)))
    assert [row[4] for row in convolutions(module)] == [groups, groups]


def test_there_is_always_a_channel_inside() -> None:
    module = operation("cb_stack_3x3_ex0.0625").build(TensorSpec((3, 8, 8)), TensorSpec((3, 8, 8)))
    assert convolutions(module)[0][1] == 1


def test_cost_by_hand() -> None:
    module = operation("cb_stack_3x3_ex1.0").build(BEFORE, AFTER)
    assert macs(module, BEFORE) == 7 * 7 * 9 * (16 * 32 + 32 * 32)
    assert parameters(module) == 9 * (16 * 32 + 32 * 32) + 4 * 32
