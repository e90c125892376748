"""A network designed end to end on small digits of two sizes, and the depth of a network's stages as a decision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hant
import pytest
import torch
from hant.op_library.cost import macs
from hant.op_library.structure import Structure, SuperBlockNetwork
from hant.op_library.tensor_spec import TensorSpec
from hant.passes.designing.records import CostRecord, DesignRecord, GradientRecord, PerturbationRecord
from hant.passes.finetuning.records import StudentRecord
from hant.passes.ranking.records import FinalistRecord
from hant.transformer.contracts.record import Record
from hant.transformer.contracts.target import Target
from hant.transformer.contracts.timing import Protocol
from hant.transformer.errors import InfeasibleError, UsageError
from hant.transformer.runs.records import PassRecord
from hant.transformer.runs.store import RunStore

MASTER = "conv_3x3@8 xx_3x3_d1@8/2 bl_3x3_r0.5_d1@16/2 conv_1x1@16"
QUICK = Target(name="quick", backend="onnxruntime", protocol=Protocol(warmup_seconds=0.02, rounds=5, max_rounds=5))
SMALL = {
    "master": {"epochs": 2},
    "perturb": {"samples": 3, "epochs": 1, "kernels": [3], "bottlenecks": [0.5], "widths": [1, 2], "depth": 1},
    "superblocks": {"networks": 3},
    "design": {"solutions": 3, "measured": 2},
    "train": {"finalists": 2, "finalist_epochs": 1, "epochs": 1},
}
MADE: tuple[type[Record], ...] = (PerturbationRecord, GradientRecord, DesignRecord, FinalistRecord, StudentRecord)


def designed(run: Path, **more: object) -> hant.Result:
    options = {
        "budget": "50ms",
        "input_shape": "1x8x8",
        "passes": SMALL,
        "target": QUICK,
        "resolutions": (8, 6),
        **more,
    }
    return hant.design(f"genet:{MASTER}", data="digits", run=run, **options)  # type: ignore[arg-type]


def size_of(result: hant.Result) -> tuple[int, int]:
    """(H, W) of what the student takes."""
    height, width = result.selection.get("input", "8x8").split("x")
    return int(height), int(width)


def costs_of(result: hant.Result) -> list[str]:
    with RunStore(result.run) as store:
        return list(store.all(CostRecord))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> hant.Result:
    return designed(tmp_path_factory.mktemp("design") / "run")


def test_a_structure_is_designed_trained_exported_and_verified(made: hant.Result) -> None:
    structure = Structure.parse(made.structure)
    assert [item.stride for item in structure.items] == [1, 2, 2, 1]
    network = SuperBlockNetwork(structure, 10, 1)
    network.load_state_dict(made.model.state_dict())
    images = torch.randn(2, 1, *size_of(made))
    with torch.no_grad():
        assert torch.equal(network.eval()(images), made.model(images))
    assert not made.latency.estimated
    assert made.report.within_budget
    assert {"student.onnx", "student.safetensors"} <= set(made.report.files)
    assert made.report.parameters["student"] == sum(p.numel() for p in network.parameters())
    assert made.report.macs["student"] == macs(network, TensorSpec((1, *size_of(made))))
    loaded = hant.load(made.run / "student.safetensors")
    with torch.no_grad():
        assert torch.allclose(loaded(images), made.model(images), atol=1e-5)


def test_the_report_tells_how_it_was_designed(made: hant.Result) -> None:
    told = made.report.design
    assert told is not None
    assert (told.master, told.structure) == (MASTER, made.structure)
    assert [(plane.place, plane.type) for plane in told.planes] == [
        ("stem", "conv_3x3"), ("stages.0", "xx_3x3"), ("stages.1", "bl_3x3_r0.5"), ("final_conv", "conv_1x1"),
    ]  # fmt: skip
    trained = [row for row in told.structures if row.accuracy is not None]
    assert made.structure in {row.structure for row in trained}
    assert [row.resolution for row in trained] == ["8x8", "8x8", "6x6", "6x6"]
    assert [row.operation for row in made.report.blocks] == made.structure.split()
    page = (made.run / "report.html").read_text()
    assert "<h2>The design</h2>" in page
    assert made.report.search.engine == "design"


def test_the_size_of_images_is_that_of_the_best_finalist(made: hant.Result) -> None:
    told = made.report.design
    assert told is not None
    assert [row.resolution for row in told.resolutions] == ["6x6", "8x8"]
    for row in told.resolutions:
        mine = {one.structure: one for one in told.structures if one.resolution == row.resolution}
        best = max((one for one in mine.values() if one.accuracy is not None), key=lambda one: one.accuracy or 0.0)
        assert (row.designs, row.accuracy, row.ratio) == (len(mine), best.accuracy, mine[row.structure].ratio)
        assert 0 < row.error < 10
    (chosen,) = [row for row in told.resolutions if row.chosen]
    assert chosen.accuracy == max(row.accuracy or 0.0 for row in told.resolutions)
    assert made.report.blocks[0].input == f"1x{chosen.resolution}"
    assert made.selection.get("input", "8x8") == chosen.resolution
    page = (made.run / "report.html").read_text()
    assert f"<td>{chosen.resolution} (chosen)</td>" in page
    assert ("within the noise" in page) is not told.resolution_told
    costs = {key.rpartition("/")[0].rpartition("/")[0] for key in costs_of(made)}
    assert costs == {"", "6x6"}


def test_the_same_again_does_nothing_and_what_is_lost_is_made_again_to_the_bit(made: hant.Result) -> None:
    with RunStore(made.run) as store:
        known: list[dict[str, Any]] = [dict(store.all(kind)) for kind in MADE]
        for key in list(known[0])[::3]:
            store.delete(PerturbationRecord, key)
        store.delete(FinalistRecord, next(key for key, one in known[3].items() if "input" in one.choice))
        for name in ("perturb", "train"):
            store.delete(PassRecord, name)
        started = len(store.events("pass_started"))
    again = designed(made.run)
    assert again.structure == made.structure
    with RunStore(made.run) as store:
        assert known == [store.all(kind) for kind in MADE]
        names = [str(event["name"]) for _, event in store.events("pass_started")][started:]
    assert names == ["capture", "perturb", "train"]
    weights, others = made.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_a_budget_below_the_least_structure_is_told(made: hant.Result) -> None:
    with pytest.raises(
        InfeasibleError, match=r"no design around this MasterNet is within the budget.*fastest is predicted"
    ):
        designed(made.run, budget="0.000001ms")
    with pytest.raises(InfeasibleError, match=r"no design is within 1000 params; the least has \d+, around this"):
        designed(made.run, limits=["params=1k"])


def test_what_names_no_masternet_or_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"both genet:digits and --master genet:cifar name a MasterNet"):
        hant.design("genet:digits", master="genet:cifar", data="digits", budget=0.5, run=tmp_path / "a")
    with pytest.raises(UsageError, match=r"unknown structure 'digit'; did you mean 'digits'"):
        hant.design("genet:digit", data="digits", budget=0.5, run=tmp_path / "b")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 10)
    )
    with pytest.raises(UsageError, match=r"no MasterNet is given to design from; give --master"):
        hant.design(model, data="digits", budget=0.5, run=tmp_path / "c")


@pytest.mark.slow
def test_one_operation_stands_for_a_whole_stage(tmp_path: Path) -> None:
    torch.manual_seed(0)
    deep = Structure.parse("conv_3x3@8 xx_3x3_d3@8/2 xx_3x3_d2@16/2 conv_1x1@16")
    teacher = SuperBlockNetwork(deep, 10, 1).eval()
    result = hant.optimize(
        teacher,
        data="digits",
        input_shape="1x8x8",
        target=QUICK,
        budget="50ms",
        granularity="stage",
        limits=["macs=30%"],
        pool="teacher,bl_3x3_r0.5_d1",
        run=tmp_path / "run",
        epochs=0,
        passes={"pretrain": {"epochs": 0.2}, "profile": {"keep_slower": True}, "align": {"epochs": 0}},
    )
    assert result.selection == {"stages.0": "bl_3x3_r0.5_d1", "stages.1": "bl_3x3_r0.5_d1"}
    assert not result.latency.estimated
    convolutions = [m for m in result.model.modules() if isinstance(m, torch.nn.Conv2d)]
    # stem and last; of each stage three of the body and the projection where the shape changes
    assert len(convolutions) == 2 + 4 + 4
    assert result.report.macs["student"] < result.report.macs["teacher"]
