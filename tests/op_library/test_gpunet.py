"""Published networks by their published figures; spaces by the sizes that the paper prints (PruNet, table 3)."""

from __future__ import annotations

from pathlib import Path

import hant
import pytest
import torch
from hant.op_library.cost import macs, parameters
from hant.op_library.gpunet import GpuNet, images, layers, network, published
from hant.op_library.pools import operation, pool
from hant.op_library.spaces import space
from hant.op_library.tensor_spec import TensorSpec
from hant.transformer.errors import LoadError, UsageError
from torch import nn


def cost(name: str, released: bool) -> tuple[float, float]:
    """Parameters in millions, multiply-accumulates in billions."""
    with torch.device("meta"):
        made = network(name, released_padding=released)
    return parameters(made) / 1e6, macs(made, TensorSpec((3, images(name), images(name)))) / 1e9


@pytest.mark.parametrize(
    ("name", "millions", "billions", "released"),
    [
        ("0", 11.9, 3.31, 3.25),
        ("1", 12.7, 3.38, 3.31),
        ("2", 25.8, 8.71, 8.39),
        ("p0", 22.8, None, None),
        ("p1", 39.9, None, None),
    ],
)
def test_published_networks_have_their_published_cost(
    name: str, millions: float, billions: float | None, released: float | None
) -> None:
    found, whole = cost(name, released=False)
    assert round(found, 1) == millions
    if billions is not None:
        assert round(whole, 2) == billions
        assert round(cost(name, released=True)[1], 2) == released


@pytest.mark.parametrize("name", ["p0", "p1"])
def test_every_width_is_a_multiple_of_32(name: str) -> None:
    made = network(name)
    wide = [part.in_channels for part in made.modules() if isinstance(part, nn.Conv2d) and part.groups > 1]
    assert len(wide) >= 10
    assert all(width % 32 == 0 for width in wide)


def test_networks_are_named_wherever_an_architecture_is(tmp_path: Path) -> None:
    made = hant.load(None, arch="gpunet:p0", arch_kwargs={"num_classes": 7})
    assert isinstance(made, GpuNet)
    assert made.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    file = tmp_path / "weights.pt"
    torch.save(made.state_dict(), file)
    again = hant.load(file, arch="gpunet:p0")  # the weights say how many classes there are
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(again.eval()(x), made(x))
    text = hant.load("gpunet:conv_3x3@8/2 efn_3x3_e2_se0.25@16/2*2 conv_1x1@32")
    assert text.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
    with pytest.raises(LoadError, match="no weights of gpunet:0 to fetch; give their file"):
        hant.load(None, arch="gpunet:0", arch_kwargs={"pretrained": True})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "unknown network '3'.*expected one of 0, 1, 2, p0, p1, or text"),
        ("conv_3x3@8 x", "part 2 of the network, 'x': cannot be read; expected OPERATION@CHANNELS/STRIDE"),
        ("conv_3x3@8 slice_w0.5@8", "unknown operation 'slice_w0.5'; expected conv_3x3, efn"),
        ("conv_3x3@8 teacher@8", "unknown operation 'teacher'"),
        ("conv_3x3@8*999 conv_1x1@8", "at most 16384 channels and 200 layers"),
        ("conv_3x3@99999 conv_1x1@8", "at most 16384 channels and 200 layers"),
        ("conv_3x3@8", "a network of 1 layers; expected at least 2"),
    ],
)
def test_what_is_no_network_is_told(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        network(text)


def test_the_first_of_several_layers_has_the_stride() -> None:
    found = layers(published()["1"])
    assert [layer.stride for layer in found if layer.channels == 448] == [2, 1, 1, 1]


def test_sizes_of_the_papers_spaces() -> None:
    printed = space("gpunet-1-product")
    assert printed.size(widths=2, skips="none") == 2**2 * 8**17  # FBNet's eight blocks: 9.0e15
    assert f"{printed.size(skips='none'):.1e}" == "7.1e+38"
    assert printed.size(widths=2, skips="everywhere") == 3**2 * 9**17  # 1.5e17
    assert f"{printed.size():.1e}" == "1.7e+39"
    assert f"{space('gpunet-1').size():.1e}" == "1.1e+41"  # one layer more: 64 kinds and the skip


@pytest.mark.parametrize("name", ["gpunet-1", "gpunet-b1", "cifar"])
def test_the_widest_network_of_a_space_can_be_made(name: str) -> None:
    found = space(name)
    with torch.device("meta"):
        made = network(found.widest)
    assert len(layers(found.widest)) == len(found.places) + 2
    assert made(torch.zeros(1, 3, found.images, found.images, device="meta")).shape == (1, 1000)


def test_kernels_may_have_activations_of_their_own_and_one_width() -> None:
    found = space("gpunet-b1")
    assert found.size() == 4**2 * 5**5 * 6**13
    assert found.choices["layers.3"] == (
        *(f"efnv2_{k}x{k}_e8_se1.00_relu" for k in (3, 5)),
        *(f"efnv2_{k}x{k}_e8_se1.00" for k in (3, 5, 7)),
    )


@pytest.mark.parametrize("name", ["gpunet-1", "cifar"])
def test_every_operation_of_a_space_gives_its_width_back(name: str) -> None:
    for place in space(name).places:
        for choice in place.choices() if place.widths else ():
            spec = operation(choice)
            assert round(place.before * spec.expansion) in place.widths  # type: ignore[attr-defined]


def test_a_space_is_read_from_a_file_and_its_faults_are_told(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'images = 8\ngranularity = 8\nexpansion = 2\nstem = "conv_3x3@8"\nhead = "conv_1x1@16"\n'
        'stages = [{ family = "efn", kernels = { silu = [3] }, channels = 8, layers = 2 }]\n'
    )
    assert space(f"space:{file}").choices == {
        f"layers.{index}": ("efn_3x3_e2_se1.00", "identity")
        for index in (1, 2)  # not e1, which has no expansion layer
    }
    assert [spec.name for spec in pool(f"space:{file}")] == ["efn_3x3_e2_se1.00", "identity"]
    file.write_text(file.read_text().replace("granularity = 8", "granularity = 0"))
    with pytest.raises(UsageError, match=r"mine.toml: granularity: input should be greater than or equal to 1"):
        space(str(file))
    with pytest.raises(UsageError, match=r"cannot read space .*none.toml: No such file"):
        space(str(tmp_path / "none.toml"))


def test_an_unknown_space_is_told() -> None:
    with pytest.raises(UsageError, match=r"unknown space 'gpunet1'; did you mean .*gpunet-1"):
        space("gpunet1")
