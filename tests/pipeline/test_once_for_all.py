"""Many students of networks of others, from one training."""

from __future__ import annotations

from pathlib import Path

import hant
import pytest
import torch
from hant.passes.sharing.records import SharedRecord
from hant.tests.cli.conftest import QUICK
from hant.transformer.runs.store import RunStore
from torch import Tensor


class Noise(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images of ten brightnesses."""

    def __init__(self, count: int, size: int) -> None:
        generator = torch.Generator().manual_seed(count)
        self._images = torch.randn(count, 3, size, size, generator=generator)
        self._images += (torch.arange(count) % 10 - 5).view(-1, 1, 1, 1)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._images[index], index % 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "start"),
    [
        ("mobilenetv3_small_050", 64, "none"),
        ("mobilenetv3_small_050", 64, "teacher"),
        ("convnext_atto", 64, "teacher"),
        ("vit_tiny_patch16_224", 224, "teacher"),
    ],
)
def test_networks_of_timm_are_shrunk(name: str, size: int, start: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    target = tmp_path / "quick.toml"
    target.write_text(QUICK)
    found = hant.once_for_all(
        timm.create_model(name, num_classes=10).eval(),
        data=hant.Data(train=Noise(96, size), test=Noise(20, size), name="noise"),
        budgets=(0.7, 0.9),
        targets=(str(target),),
        pool="teacher,identity,slice_w0.5",
        input_shape=(f"3x{size}x{size}",),
        solutions=3,
        run=tmp_path / "run",
        passes={"shrink": {"start": start, "epochs": 1, "align_epochs": 1, "batch_size": 16}},
    )
    assert [point.made for point in found.report.points] == [True, True]
    with RunStore(tmp_path / "run") as store:
        record = store.get(SharedRecord, "shared")
    assert record is not None
    assert len(record.operations) > 5
    assert any("slice_w0.5" in names for names in record.operations.values())
    assert record.drawn is (start == "none")
    for student in found.students.values():
        with torch.no_grad():
            assert student.model(torch.randn(2, 3, size, size)).shape == (2, 10)
