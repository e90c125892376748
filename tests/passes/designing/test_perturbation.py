from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hant.backends.onnxruntime.backend import OnnxRuntimeBackend
from hant.op_library.structure import Structure
from hant.passes.designing.inherit import fresh, varied
from hant.passes.designing.perturbation import Recipe, perturbed, trained_parts
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.target import Target
from hant.transformer.data.sources import load_data
from hant.transformer.runs.store import RunStore
from torch.utils.data import Subset

MASTER = Structure.parse("conv_3x3@8 xx_3x3_d1@8/2 bl_3x3_r0.5_d1@16/2 conv_1x1@16")
RECIPE = Recipe(1, 32, 0.05, 0.9, 0.0, 1.0, True, 0, "master")


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    data = load_data("digits", (1, 8, 8))
    few = replace(data, train=Subset(data.train, range(200)), test=Subset(data.test, range(50)))
    with RunStore(tmp_path / "run") as store:
        yield Context(
            model=fresh(MASTER, 10, 1, 0),
            example_inputs=(torch.zeros(1, 1, 8, 8),),
            store=store,
            target=Target(name="test", backend="onnxruntime"),
            backend=OnnxRuntimeBackend(),
            pool=(),
            data=few,
        )


def test_each_is_the_same_whatever_trains_beside_it(context: Context) -> None:
    master = MASTER, fresh(MASTER, 10, 1, 3).state_dict()
    others = [Structure.parse(str(MASTER).replace("xx_3x3_d1@8", text)) for text in ("xx_3x3_d2@16", "xx_5x5_d1@8")]
    together = perturbed(context, master, 1, others, RECIPE)
    alone = [perturbed(context, master, 1, [other], RECIPE)[0] for other in others]
    assert together == alone
    assert together[0] != together[1]
    assert all(metrics.samples == 30 for metrics in together)


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        (0, {"stem", "stages.0.0.conv1_kxk", "stages.0.0.shortcut"}),
        (1, {"stages.0", "stages.1.0.conv1_1x1", "stages.1.0.shortcut"}),
        (2, {"stages.1", "final_conv"}),
        (3, {"final_conv", "head"}),
    ],
)
def test_the_place_and_the_input_side_of_the_next_train_and_nothing_else(place: int, wanted: set[str]) -> None:
    network = fresh(MASTER, 10, 1, 0)
    names = {module: name for name, module in network.named_modules()}
    assert {names[part] for part in trained_parts(network, place)} == wanted


def test_training_leaves_the_masternet_as_it_is(context: Context) -> None:
    weights = fresh(MASTER, 10, 1, 3).state_dict()
    before = {name: tensor.clone() for name, tensor in weights.items()}
    perturbed(context, (MASTER, weights), 2, [MASTER], RECIPE)
    assert all(torch.equal(weights[name], before[name]) for name in before)
    assert torch.equal(varied(MASTER, weights, 0).state_dict()["stem.conv.weight"], before["stem.conv.weight"])
