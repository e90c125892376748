"""A space is searched from nothing: labels alone train everything, and the result is a network of the space."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import hant
import pytest
import torch
from hant.op_library.cost import parameters
from hant.op_library.gpunet import SpaceNet
from hant.op_library.spaces import space
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.candidates.records import OperationRecord
from hant.passes.finetuning.finetune import FinetunePass
from hant.passes.finetuning.records import StudentRecord
from hant.passes.latency.measure import measure_network
from hant.passes.latency.profile import ProfilePass
from hant.passes.pretraining.records import TrainedRecord
from hant.passes.ranking.records import WinnerRecord
from hant.passes.searching.contest import Contest
from hant.passes.searching.prunet.loop import PrunetSearch
from hant.passes.searching.prunet.scratch import ScratchPass
from hant.passes.searching.records import PrunetRecord
from hant.passes.selecting.select import used_share
from hant.passes.selecting.table import error_table
from hant.transformer.contracts.budget import Budget
from hant.transformer.contracts.context import Context
from hant.transformer.errors import UsageError
from hant.transformer.runs.store import RunStore

SPACE = """
images = 12
granularity = 8
expansion = 2
stem = "conv_3x3@8"
head = "conv_1x1@32"
stages = [
  { family = "conv", kernels = { relu = [1, 3] }, channels = 8, layers = 1 },
  { family = "efnv2", kernels = { relu = [3] }, channels = 16, stride = 2, layers = 2 },
  { family = "efn", kernels = { silu = [3, 5] }, squeezes = [1.0, 0.25], channels = 16, layers = 1 },
]
"""
BUDGET = Budget.parse("0.6")
QUICK = ScratchPass(budget=BUDGET, steps=60, search_batch_size=16)


@pytest.fixture(scope="module")
def profiled_space(tmp_path_factory: pytest.TempPathFactory, search_runs: ModuleType) -> tuple[SpaceNet, Path]:
    """The widest network of a small space, and its run up to the lookup table."""
    folder = tmp_path_factory.mktemp("space")
    (folder / "small.toml").write_text(SPACE)
    torch.manual_seed(0)
    network = SpaceNet(space(str(folder / "small.toml")), 10, 1).eval()
    with RunStore(folder / "run") as store:
        context = search_runs.open_context(store, network, f"teacher,space:{folder / 'small.toml'}")
        CandidatesPass().run(context)
        ProfilePass(widths="bisect", keep_slower=True).run(context)
    return network, folder


@pytest.fixture
def run(profiled_space: tuple[SpaceNet, Path], search_runs: ModuleType, tmp_path: Path) -> Iterator[Context]:
    """A run of its own."""
    network, folder = profiled_space
    shutil.copytree(folder / "run", tmp_path / "run")
    with RunStore(tmp_path / "run") as store:
        yield search_runs.open_context(store, network, f"teacher,space:{folder / 'small.toml'}")


def test_layers_become_what_the_space_has_for_them(run: Context) -> None:
    listed = run.store.all(OperationRecord)
    fitting = {block: set[str]() for block in (record.block for record in listed.values())}
    for record in listed.values():
        if record.fits:
            fitting[record.block].add(record.operation)
    assert fitting["layers.1"] == {"teacher", "identity", "conv_1x1", "conv_3x3"}
    assert fitting["layers.2"] == {"teacher", *(f"efnv2_3x3_e{e}_se1.00_relu" for e in (1, 2))}
    assert fitting["layers.3"] == {
        "teacher",
        "identity",
        *(f"efnv2_3x3_e{e}_se1.00_relu" for e in ("0.5", "1", "1.5", "2")),
    }
    mbconvs = {f"efn_{k}x{k}_e{e}_se{s}" for k in (3, 5) for e in ("0.5", "1.5", "2") for s in (1.0, 0.25)}
    assert {name.removesuffix("0") if name.endswith("1.00") else name for name in fitting["layers.4"]} == {
        "teacher",
        "identity",
        *mbconvs,
    }
    assert all(fitting.get(name, {"teacher"}) == {"teacher"} for name in ("layers.0", "layers.5", "head.fc"))


def test_a_space_is_searched_and_the_result_trained_from_nothing(run: Context) -> None:
    store, before = run.store, {name: value.clone() for name, value in run.model.state_dict().items()}
    QUICK.check(run)
    notes = QUICK.run(run).notes
    winner, told = store.get(WinnerRecord, "winner"), store.get(PrunetRecord, "search")
    assert winner is not None
    assert told is not None
    assert used_share(measure_network(run, winner.choice), BUDGET) <= 1
    assert isinstance(run.model, SpaceNet)
    choices = run.model.space.choices
    for block, name in winner.choice.items():
        assert name in (*choices.get(block, ()), "teacher")
    assert all(name != "teacher" for block, name in told.preferred.items() if block in choices)
    assert not store.all(TrainedRecord)  # as in the paper, what was found is trained anew
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    found = hant.load(notes[-1], arch_kwargs={"num_classes": 10, "in_chans": 1})
    assert found.eval()(torch.zeros(2, 1, 12, 12)).shape == (2, 10)
    assert parameters(found) < parameters(run.model)
    FinetunePass(epochs=1, preload="none", distillation=0.0).run(run)
    student = store.get(StudentRecord, "student")
    assert student is not None
    assert student.choice == winner.choice
    trained = store.load_tensors(student.file)
    assert not torch.equal(trained["head.fc.weight"], before["head.fc.weight"])


def test_stem_and_head_train_with_the_operations(run: Context) -> None:
    table_of = ScratchPass(budget=BUDGET, steps=10, search_batch_size=16)
    table_of.run(run)
    table = error_table(run.store, run.teacher)
    search = PrunetSearch(run, Contest(table, {"ms": table.total("ms", table.teacher())}), replace(QUICK, steps=5))
    around = {name: own for name, own in search.supernet.parameters().items() if name.startswith("|")}
    assert {name.split(".")[-2] for name in around} >= {"fc"}
    before = {name: own.detach().clone() for name, own in around.items()}
    search.run("scratch")
    assert all(not torch.equal(own, before[name]) for name, own in around.items())
    assert all(ladder.names != ("teacher",) for place in search.supernet.places for ladder in place.ladders)


def test_what_it_cannot_search_is_told(run: Context) -> None:
    with pytest.raises(UsageError, match="takes a space, such as space:cifar"):
        QUICK.check(replace(run, model=torch.nn.Identity()))
    with pytest.raises(UsageError, match="option features is 1, expected 0: a search from nothing has no teacher"):
        replace(QUICK, features=1.0).check(run)
