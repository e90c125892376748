"""The papers' recipes, on a small network and a generated folder of images in place of ImageNet."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hant.passes.finetuning.finetune import FinetunePass
from hant.passes.finetuning.records import EpochRecord
from hant.passes.pretraining.pretrain import PretrainPass
from hant.transformer.data.images import size
from hant.transformer.data.sources import load_data
from hant.transformer.errors import UsageError
from hant.transformer.pipeline.build import build_pipeline
from hant.transformer.pipeline.config import make, merge, read

RECIPES = sorted((Path(__file__).parents[3] / "examples" / "imagenet").glob("*.toml"))
TEACHER = """
import torch
from torch import nn

def build() -> nn.Module:
    torch.manual_seed(0)
    def block() -> nn.Module:
        return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()), block(), block(), block(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty pictures of two classes in the layout of ImageNet."""
    image = pytest.importorskip("PIL.Image")
    numbers = np.random.default_rng(0)
    for part, count in (("train", 16), ("val", 4)):
        for label, name in enumerate(("dark", "light")):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = numbers.integers(0, 128, (40, 48, 3), dtype=np.uint8) + np.uint8(120 * label)
                image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{index}.png")
    return tmp_path / "data"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_read_and_give_the_papers_numbers(recipe: Path) -> None:
    config = make(read(recipe), str(recipe))
    stages = {stage.name: stage for stage in build_pipeline(config).passes}
    tuned, trained = stages["finetune"], stages["pretrain"]
    assert isinstance(tuned, FinetunePass)
    assert isinstance(trained, PretrainPass)
    assert (tuned.preset, tuned.cross_entropy, tuned.distillation) == (trained.preset, 1.0, 1.0)
    assert (config.solutions, config.pool, config.target) == (100, "hant-197", "v100-trt")


def test_there_is_a_recipe_for_each_teacher_of_the_paper() -> None:
    assert [path.stem for path in RECIPES] == ["b2", "b4", "b6", "resnest50", "v2-b3"]


def test_a_recipe_trains_on_a_folder_of_images(tmp_path: Path, folder: Path) -> None:
    pytest.importorskip("timm")
    (tmp_path / "teacher.py").write_text(TEACHER)
    values = merge(
        read(RECIPES[0]),
        {
            "model": "",
            "arch": f"{tmp_path / 'teacher.py'}:build",
            "data": f"imagefolder:{folder}?augment=rand-m9-mstd0.5",
            "input_shape": "3x16x16",
            "pool": "teacher,identity",
            "target": "cpu-ort",
            "device": "cpu",
            "passes": {"finetune": {"batch_size": 9, "epochs": 2, "mixed_precision": "bf16", "workers": 1}},
        },
    )
    losses = []
    for name in ("first", "second"):
        with _runs().open_before(tmp_path / name, values) as (context, stage):
            stage.run(context)
            losses.append([epoch.train_loss for epoch in context.store.all(EpochRecord).values() if epoch.epoch])
        values = merge(values, {"passes": {"finetune": {"workers": 0}}})
    assert len(losses[0]) == 2
    assert losses[0] == losses[1]  # whoever reads the images


def test_augmented_images_come_from_the_seed_and_the_place(folder: Path) -> None:
    pytest.importorskip("timm")
    data = load_data(f"imagefolder:{folder}?augment=rand-m9-mstd0.5", (3, 16, 16))
    first, again, other = (data.changed(seed) for seed in (1, 1, 2))
    assert size(first) == size(data.train) == 32
    torch.manual_seed(3)
    expected = torch.get_rng_state()
    image, label = first[20]
    assert torch.equal(torch.get_rng_state(), expected)
    assert (image.shape, label) == ((3, 16, 16), 1)
    assert torch.equal(image, again[20][0])
    assert not torch.equal(image, other[20][0])
    assert not torch.equal(image, data.train[20][0])


def test_a_policy_that_timm_does_not_know_is_refused(folder: Path) -> None:
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match="timm does not know augmentation 'randm9'; expected one such as rand-m9"):
        load_data(f"imagefolder:{folder}?augment=randm9", (3, 16, 16))


def _runs() -> Any:
    spec = importlib.util.spec_from_file_location("finetuning_run", Path(__file__).parents[1] / "finetuning_run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
