from __future__ import annotations

import pytest
import torch
from hant.op_library.cost import macs, parameters
from hant.op_library.structure import Structure, SuperBlockNetwork
from hant.op_library.tensor_spec import TensorSpec
from hant.passes.designing.counts import counts


@pytest.mark.parametrize(
    ("text", "channels", "size"),
    [
        ("digits", 1, (32, 32)),
        ("conv_3x3@13/2 bl_5x5_r0.25_d3@32/2 xx_3x3_d2@32 dw_3x3_r6_d2@40/2 conv_1x1@64", 3, (17, 24)),
    ],
)
def test_a_structure_is_counted_as_its_network_is(text: str, channels: int, size: tuple[int, int]) -> None:
    structure = Structure.parse(text)
    with torch.device("meta"):
        network = SuperBlockNetwork(structure, 10, channels)
    expected = parameters(network), macs(network, TensorSpec((channels, *size)))
    assert counts(structure, 10, channels, size) == expected
