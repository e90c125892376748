import hant
import pytest
import torch
from hant.op_library.op_spec import OpSpec
from hant.op_library.pools import operation
from hant.op_library.reparameterise import Branches
from hant.op_library.tensor_spec import Layout, TensorSpec
from hant.transformer.rewrite.deploy import deploy
from torch import nn

SPECS = hant.pool("repvgg_*,dbb_*")
BORDERS = [
    (TensorSpec((8, 14, 14)), TensorSpec((8, 14, 14))),
    (TensorSpec((6, 33, 33)), TensorSpec((10, 17, 17))),
    (TensorSpec((4, 9, 9)), TensorSpec((4, 7, 7))),
]


def trained(spec: OpSpec, input: TensorSpec, output: TensorSpec) -> nn.Module:
    """Return the module with statistics and gains that are not those of a fresh batch norm."""
    module = spec.build(input, output)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, -1, 2)
            nn.init.normal_(part.bias)
    with torch.no_grad():
        for _ in range(3):
            module(3 * input.random(16) + 1)
    return module.eval()


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("border", BORDERS, ids=lambda border: f"{border[0]}-{border[1]}")
def test_fused_is_one_convolution_with_the_same_output(spec: OpSpec, border: tuple[TensorSpec, TensorSpec]) -> None:
    module = trained(spec, *border)
    fused = deploy(module)
    x = border[0].random(4)
    with torch.no_grad():
        expected = module(x)
        # 1e-5 of an output of size one
        torch.testing.assert_close(fused(x), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert [type(part) for part in fused.modules() if list(part.parameters(recurse=False))] == [nn.Conv2d]
    assert sum(isinstance(part, Branches) for part in module.modules()) == 1, "the module itself is unchanged"


def test_branches_inside_a_network_are_fused() -> None:
    first = trained(operation("repvgg_3x3"), *BORDERS[0])
    network = nn.Sequential(
        first, nn.ReLU(), nn.ModuleDict({"tail": trained(operation("dbb_1x1_relu"), *BORDERS[0])})["tail"]
    )
    network.eval()
    fused = deploy(network)
    x = BORDERS[0][0].random(2)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), network(x), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(part, Branches | nn.BatchNorm2d) for part in fused.modules())
    alone = deploy(nn.Sequential(nn.Conv2d(3, 3, 1))).get_submodule("0")
    assert isinstance(alone, nn.Conv2d)
    assert alone.kernel_size == (1, 1)


def test_branches_of_repvgg() -> None:
    same = operation("repvgg_5x5").build(TensorSpec((8, 14, 14)), TensorSpec((8, 14, 14)))
    assert isinstance(same, Branches)
    kernels = [
        [layer.kernel_size[0] for layer in branch.children() if isinstance(layer, nn.Conv2d)]
        for branch in same.branches
    ]
    assert kernels == [[5], [1], []]
    other = operation("repvgg_5x5").build(TensorSpec((8, 14, 14)), TensorSpec((8, 7, 7)))
    assert isinstance(other, Branches)
    assert len(other.branches) == 2


def test_half_precision_and_tokens_fuse_too() -> None:
    tokens = TensorSpec((9, 4), layout=Layout.TOKENS)
    module = trained(operation("dbb_1x1"), tokens, tokens)
    x = tokens.random(2)
    with torch.no_grad():
        torch.testing.assert_close(deploy(module)(x), module(x), rtol=1e-4, atol=1e-4)
    half = operation("repvgg_3x3").build(
        TensorSpec((4, 8, 8), dtype="bfloat16"), TensorSpec((4, 8, 8), dtype="bfloat16")
    )
    assert {parameter.dtype for parameter in deploy(half.eval()).parameters()} == {torch.bfloat16}
