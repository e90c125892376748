from __future__ import annotations

import pytest
import torch
from hant.op_library.families.superblock import bl, dw, xx
from hant.op_library.pools import operation, pool
from hant.op_library.tensor_spec import TensorSpec
from torch import nn

SAME = TensorSpec((16, 8, 8))


def copied(source: nn.Module, target: nn.Module) -> None:
    """Give one module's convolutions and norms to another's, in order."""
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    first, second = ([m for m in module.modules() if isinstance(m, kinds)] for module in (source, target))
    assert [type(m) for m in first] == [type(m) for m in second]
    for a, b in zip(first, second, strict=True):
        if isinstance(a, nn.BatchNorm2d):
            a.running_mean = torch.randn(a.num_features)
        b.load_state_dict(a.state_dict())


def test_the_pool_holds_the_types_of_the_search_at_three_depths() -> None:
    names = [spec.name for spec in pool("genet")]
    assert len(names) == 38
    assert names[:4] == ["teacher", "identity", "xx_3x3_d1", "xx_3x3_d2"]
    assert {"bl_5x5_r0.25_d3", "dw_3x3_r9_d1"} <= set(names)


@pytest.mark.parametrize("spec", [s for family in (xx, bl, dw) for s in family.specs()], ids=str)
def test_names_are_read_back(spec: object) -> None:
    assert operation(str(spec)) == spec


@pytest.mark.parametrize(
    ("superblock", "known"),
    [
        ("xx_3x3_d1", "cb_stack_3x3_ex1.0"),
        ("bl_3x3_r0.25_d1", "cb_bottle_3x3_ex0.25"),
        ("dw_5x5_r6_d1", "efn_5x5_e6_se1.00_relu"),
    ],
)
def test_where_shapes_agree_one_block_is_a_known_operation(superblock: str, known: str) -> None:
    ours, theirs = (operation(name).build(SAME, SAME).eval() for name in (superblock, known))
    copied(theirs, ours)
    x = SAME.random(2, torch.Generator().manual_seed(0))
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("spec", pool("genet")[2:], ids=str)
def test_widths_and_strides_change_in_the_first_block_only(spec: object) -> None:
    narrow, wide = TensorSpec((8, 9, 9)), TensorSpec((12, 5, 5))
    module = operation(str(spec)).build(narrow, wide)
    assert module(narrow.random(2)).shape == (2, 12, 5, 5)
    shortcuts = [type(block.shortcut) for block in module.children()]
    assert shortcuts == [nn.Sequential] + [nn.Identity] * (len(shortcuts) - 1)


def test_the_last_block_may_be_negative_and_the_inner_ones_not() -> None:
    module = operation("xx_3x3_d2").build(SAME, SAME)
    assert isinstance(module, nn.Sequential)
    x = SAME.random(4)
    assert module[0](x).min() >= 0
    assert module(x).min() < 0


def test_inner_channels_count_from_the_output() -> None:
    module = operation("dw_3x3_r3_d1").build(TensorSpec((8, 4, 4)), TensorSpec((20, 4, 4)))
    depthwise = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert [conv.groups for conv in depthwise] == [60]
