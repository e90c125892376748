from __future__ import annotations

import pytest
import torch
from hant.op_library.structure import Structure, network
from hant.passes.designing.inherit import varied

MASTER = "conv_3x3@8 xx_3x3_d1@8/2 bl_3x3_r0.5_d1@16/2 dw_3x3_r3_d2@16 conv_1x1@24"


@pytest.fixture
def master() -> torch.nn.Module:
    torch.manual_seed(0)
    made = network(MASTER, 5, 2)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -1, 1)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.weight, 0.5, 2)
    return made.eval()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("conv_3x3@8 ", "conv_3x3@24 "),
        ("conv_3x3@8 ", "conv_5x5@8 "),
        ("xx_3x3_d1@8/2", "xx_5x5_d1@8/2"),
        ("xx_3x3_d1@8/2", "xx_3x3_d3@16/2"),
        ("bl_3x3_r0.5_d1@16/2", "bl_5x5_r0.5_d2@40/2"),
        ("dw_3x3_r3_d2@16", "dw_5x5_r6_d4@16"),
        ("conv_1x1@24", "conv_1x1@40"),
    ],
)
def test_what_only_grows_computes_the_same_at_first(master: torch.nn.Module, before: str, after: str) -> None:
    assert before in MASTER
    images = torch.randn(3, 2, 16, 16)
    grown = varied(Structure.parse(MASTER.replace(before, after)), master.state_dict(), 0)
    with torch.no_grad():
        assert torch.allclose(grown(images), master(images), atol=1e-5)


def test_what_shrinks_keeps_its_first_channels_and_the_middle_of_its_kernel(master: torch.nn.Module) -> None:
    text = MASTER.replace("xx_3x3_d1@8/2", "xx_3x3_d1@4/2").replace("conv_3x3@8 ", "conv_1x1@8 ")
    small = varied(Structure.parse(text), master.state_dict(), 0).state_dict()
    large = master.state_dict()
    assert torch.equal(small["stages.0.0.conv2_kxk.conv.weight"], large["stages.0.0.conv2_kxk.conv.weight"][:4, :4])
    assert torch.equal(small["stem.conv.weight"], large["stem.conv.weight"][:, :, 1:2, 1:2])


def test_what_is_drawn_follows_from_seed_and_structure_alone(master: torch.nn.Module) -> None:
    structure = Structure.parse(MASTER.replace("@8/2", "@32/2"))
    first, torch_state = varied(structure, master.state_dict(), 0).state_dict(), torch.random.get_rng_state()
    again, other = (varied(structure, master.state_dict(), seed).state_dict() for seed in (0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stages.0.0.conv1_kxk.conv.weight"], other["stages.0.0.conv1_kxk.conv.weight"])
    assert torch.equal(torch_state, torch.random.get_rng_state())
