from __future__ import annotations

import hant
import pytest
import torch
from hant.op_library.pools import pool
from hant.passes.candidates.build import build_candidate
from hant.passes.pretraining.engine import measure, train, variances
from hant.passes.pretraining.recipe import resolve
from hant.passes.pretraining.trainer import Trainer
from hant.tests.passes.pretraining.test_engine import Images, Network
from hant.transformer.errors import UsageError

OPERATIONS = "cb_stack_3x3_ex0.5,efn_3x3_e3_se0.25,conv_cs_3x3,repvgg_3x3,vit_d1_w32_h4,bot_trans_e1,lambda_e1"
CPU = torch.device("cpu")


def trained(precision: str, steps: int = 60) -> tuple[dict[tuple[str, str], float], list[Trainer]]:
    torch.manual_seed(0)
    graph = hant.trace(Network(False).eval(), torch.zeros(2, 3, 8, 8))
    images = Images([(image, 0) for image in torch.randn(64, 3, 8, 8)])
    recipe = resolve(len(images), 0, epochs=steps / 4, mixed_precision=precision)
    block = graph.replaceable[0]
    trainers = [Trainer(block.name, spec.name, build_candidate(block, spec, 0), recipe) for spec in pool(OPERATIONS)]
    train(graph, trainers, recipe, images, variances(graph, images, 16, CPU), CPU, workers=1)
    return measure(graph, trainers, images, 16, CPU), trainers


def test_half_precision_learns_as_single_does_and_keeps_single_weights() -> None:
    single, _ = trained("no")
    half, trainers = trained("bf16")
    assert single.keys() == half.keys()
    assert all(trainer.failure == "" for trainer in trainers)
    for key, error in single.items():
        assert half[key] < 1.15 * error, f"{key}: it may be better, since 60 steps are few"
        assert half[key] != error, "something is computed in half precision"
    assert {p.dtype for trainer in trainers for p in trainer.module.parameters()} == {torch.float32}


def test_the_precision_is_part_of_the_recipe() -> None:
    assert resolve(64, 0).fingerprint != resolve(64, 0, mixed_precision="bf16").fingerprint


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match=r"pretrain\.mixed_precision is 'fp8', expected one of no, bf16"):
        resolve(64, 0, mixed_precision="fp8")
