from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import hant
import pytest
import torch
from hant.op_library.cost import macs, parameters
from hant.op_library.structure import Structure, network, published_names, structures
from hant.op_library.tensor_spec import TensorSpec
from hant.transformer.errors import UsageError
from torch import nn

SIZES = {  # parameters and MACs: GENet tables 2 and 3 to the unit, table 6 and section 3.3 from its structures
    "light": (8_173_761, 192, 547_222_656),
    "normal": (21_142_920, 192, 2_208_073_216),
    "large": (31_078_280, 256, 4_557_041_664),
    "net1": (16_202_824, 224, 3_310_000_000),
    "net2": (12_646_376, 224, 1_910_000_000),
    "net4": (15_079_304, 224, 2_389_000_000),
    "net5": (10_640_296, 224, 1_530_000_000),
    "net8": (8_391_224, 224, 928_000_000),
    "net9": (10_076_136, 224, 1_785_000_000),
    "net12": (13_632_584, 224, 3_185_000_000),
    "net14": (8_548_264, 224, 1_428_000_000),
    "net15": (22_249_928, 224, 3_483_000_000),
    "net16": (6_728_248, 224, 847_000_000),
    "net17": (21_126_408, 224, 2_562_000_000),
    "net18": (17_918_408, 224, 3_271_000_000),
}


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes(name: str) -> None:
    count, side, operations = SIZES[name]
    with torch.device("meta"):
        built = network(name)
    assert parameters(built) == count
    found = macs(built, TensorSpec((3, side, side)))
    assert found == operations if name in ("light", "normal", "large") else round(found / 1e6) == operations // 1e6


def test_the_profiling_network_and_those_of_hant_have_the_sizes_that_docs_say() -> None:
    with torch.device("meta"):
        sizes = [parameters(network(*what)) for what in (("profiling-132",), ("cifar", 10), ("digits", 10, 1))]
    assert sizes == [490_276_936, 286_410, 87_818]


def test_the_twenty_hand_made_networks_are_twelve() -> None:
    same: dict[str, list[int]] = defaultdict(list)
    for number in range(1, 21):
        same[str(Structure.parse(f"net{number}").normalised)].append(number)
    pairs = [numbers for numbers in same.values() if len(numbers) > 1]
    assert pairs == [[1, 6], [2, 3], [5, 7], [8, 10], [9, 11], [12, 13], [15, 19], [18, 20]]
    assert len(same) == 12


@pytest.mark.parametrize("name", structures())
def test_text_is_read_back(name: str) -> None:
    structure = Structure.parse(name)
    assert str(structure) == structures()[name]
    assert Structure.parse(str(structure)) == structure
    assert Structure.parse(str(structure.normalised)).normalised == structure.normalised


def test_normalising_changes_no_module() -> None:
    long = Structure.parse("conv_3x3@8/2 xx_3x3_d1@12/2 xx_3x3_d2@12 xx_3x3_d1@16 bl_3x3_r0.25_d1@16 conv_1x1@20")
    assert str(long.normalised) == "conv_3x3@8/2 xx_3x3_d3@12/2 xx_3x3_d1@16 bl_3x3_r0.25_d1@16 conv_1x1@20"
    shapes = [[p.shape for p in network(str(s), 5).parameters()] for s in (long, long.normalised)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(("name", "theirs"), [("light", "gernet_s"), ("normal", "gernet_m"), ("large", "gernet_l")])
def test_outputs_are_those_of_timm_with_its_weights(name: str, theirs: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    reference = timm.create_model(theirs).eval()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    ours = network(name).eval()
    ours.load_state_dict(reference.state_dict())
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(ours(images), reference(images))


def as_published(ours: dict[str, torch.Tensor], stages: int) -> dict[str, torch.Tensor]:
    """Write our names as the authors' files have them, the shortcuts behind the bodies."""
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in ours.items():
        part, *rest = name.split(".")
        leaf = rest[-1]
        if part == "stem":
            renamed[f"module_list.{0 if rest[0] == 'conv' else 1}.netblock.{leaf}"] = tensor
        elif part == "final_conv":
            renamed[f"module_list.{stages + (3 if rest[0] == 'conv' else 4)}.netblock.{leaf}"] = tensor
        elif part == "head":
            renamed[f"fc_linear.netblock.{leaf}"] = tensor
        else:
            stage, row, layer, kind = rest[0], rest[1], rest[2], rest[3]
            place = 0 if kind == "conv" else 1
            if layer == "shortcut":
                key = f"shortcut_list.{row}.{place}"
            else:
                key = f"conv_list.{row}.{(int(layer[4]) - 1) * 3 + place}"
            renamed[f"module_list.{int(stage) + 3}.{key}.netblock.{leaf}"] = tensor
    return renamed


def test_the_authors_names_are_read() -> None:
    source, target = network("digits", 10, 1), network("digits", 10, 1)
    file = as_published(source.state_dict(), stages=3)
    assert not set(file) & set(target.state_dict())
    target.load_state_dict(published_names(file))
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name]), name
    assert published_names(source.state_dict()).keys() == source.state_dict().keys()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "normel",
            r"unknown structure 'normel'; did you mean 'normal'\?.*; expected a name or text such as 'conv_3x3@16",
        ),
        ("conv_3x3@8 conv_1x1@8", r"a structure of 2 parts; expected a stem"),
        ("conv_3x3@8 xx_3x3@8 conv_1x1@8", r"part 2 of the structure, 'xx_3x3@8': expected a super-block such as"),
        ("xx_3x3_d1@8 xx_3x3_d1@8 conv_1x1@8", r"part 1 .*: expected a convolution of odd kernel"),
        ("conv_3x3@8 xx_3x3_d1@8 conv_3x3@8", r"part 3 .*: expected conv_1x1 there"),
        ("conv_3x3@8 xx_3x3_d1@8/9 conv_1x1@8", r"part 2 .*: cannot be read; expected OPERATION@CHANNELS/STRIDE"),
        ("conv_3x3@8 xx_3x3_d1@999999 conv_1x1@8", r"part 2 .*: 999999 channels; expected at most 16384"),
        ("conv_3x3@8 xx_3x3_d9999@8 conv_1x1@8", r"part 2 .*: 9999 basic blocks; expected at most 100"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        Structure.parse(text)


def test_a_structure_is_an_architecture_wherever_one_is_named(tmp_path: Path) -> None:
    source = network("digits", 10, 1)
    torch.save({"state_dict": as_published(source.state_dict(), stages=3)}, tmp_path / "theirs.pth")
    loaded = hant.load(tmp_path / "theirs.pth", arch="genet:digits", arch_kwargs={"in_chans": 1, "num_classes": 10})
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), loaded.parameters(), strict=True))
    with pytest.raises(UsageError, match="unknown structure 'digit'; did you mean 'digits'"):
        hant.load(tmp_path / "theirs.pth", arch="genet:digit")
