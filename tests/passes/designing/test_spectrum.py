from __future__ import annotations

import hant
import pytest
import torch
from hant.op_library.structure import network
from hant.passes.designing.spectrum import spectra, spectrum
from torch import nn


def test_a_planted_rank_is_found() -> None:
    torch.manual_seed(0)
    left, right = torch.linalg.qr(torch.randn(32, 5))[0], torch.linalg.qr(torch.randn(16 * 9, 5))[0]
    found = spectrum((left @ right.T).view(32, 16, 3, 3), stage=1)
    assert found.values[:5] == pytest.approx([1] * 5)
    assert max(found.values[5:]) < 1e-5
    assert found.area == pytest.approx(5 / 32, abs=1e-5)
    assert found.entropy_rank == pytest.approx(5 / 32, rel=1e-3)


def test_grouped_and_1x1_convolutions_are_listed_as_left_out() -> None:
    assert spectrum(torch.randn(8, 1, 3, 3), 0, groups=8).reason == "grouped"
    assert spectrum(torch.randn(8, 8, 1, 1), 0).reason == "1x1"
    assert spectrum(torch.randn(8, 8, 3, 3), 0).reason == ""


def test_the_layers_of_a_network_are_told_by_stage() -> None:
    torch.manual_seed(0)
    graph = hant.trace(network("digits", 10, 1).eval(), torch.zeros(1, 1, 32, 32))
    found = dict(spectra(graph))
    convolutions = {name for name, layer in graph.network.named_modules() if isinstance(layer, nn.Conv2d)}
    assert set(found) == {name for name in convolutions if name.startswith("stages.")}
    dense = {name: record for name, record in found.items() if not record.reason}
    assert {(record.stage, record.shape) for record in dense.values()} == {
        (0, (24, 16, 3, 3)), (0, (24, 24, 3, 3)), (1, (16, 16, 3, 3)),
    }  # fmt: skip
