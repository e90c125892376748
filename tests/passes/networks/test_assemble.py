from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hant.passes.networks.assemble import CandidateWeights, build_student, independent, load_student
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.pretraining.records import CandidateRecord
from hant.transformer.contracts.context import Context
from hant.transformer.errors import LoadError, LostError, UsageError
from hant.transformer.ir.graph import Graph
from hant.transformer.runs.store import RunStore

MakeContext = Callable[..., Context]

CHOICE = {"one": "identity", "two": "cb_res_3x3", "three": "teacher"}


@pytest.fixture
def trained(tmp_path: Path, make_context: MakeContext) -> Iterator[Context]:
    with RunStore(tmp_path) as store:
        context = make_context(store, "teacher,identity,cb_res_3x3")
        PretrainPass(epochs=1, batch_size=64).run(context)
        yield context


def test_students_share_parameters_until_they_are_made_independent(trained: Context, small_graph: Graph) -> None:
    weights = CandidateWeights(trained.store)
    first, second = (build_student(small_graph, CHOICE, weights) for _ in range(2))
    assert first.block("two").module is second.block("two").module
    assert first.block("three").module is small_graph.block("three").module
    alone = independent(first)
    mine = {p.data_ptr() for p in alone.network.parameters()}
    assert not mine & {p.data_ptr() for p in first.network.parameters()}
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(alone.network.eval()(x), first.network.eval()(x))
    block = alone.block("two")
    assert alone.module.get_submodule(block.target) is block.module


def test_a_student_is_the_teacher_with_the_candidates_in_place(trained: Context, small_graph: Graph) -> None:
    student = build_student(small_graph, CHOICE, CandidateWeights(trained.store))
    assert [block.class_name for block in student.blocks] != [block.class_name for block in small_graph.blocks]
    part, x = small_graph.module.get_submodule, torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        expected = part("three")(student.block("two").module(torch.relu(part("stem")(x))))
        assert torch.allclose(student.network.eval()(x), part("head")(expected.mean((2, 3))), atol=1e-6)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"one": "cb_res_5x5"}, "candidate cb_res_5x5 of block one is not in the run; run the pretrain stage first"),
        ({"on": "identity"}, "no block 'on'; did you mean 'one'?"),
    ],
)
def test_what_is_not_there_is_named(trained: Context, small_graph: Graph, choice: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        build_student(small_graph, choice, CandidateWeights(trained.store))


def test_a_dropped_candidate_is_not_used(trained: Context, small_graph: Graph) -> None:
    dropped = CandidateRecord(block="one", operation="cb_res_3x3", state="dropped", reason="slower")
    trained.store.put("one/cb_res_3x3", dropped)
    with pytest.raises(UsageError, match="candidate cb_res_3x3 of block one is dropped: slower"):
        build_student(small_graph, {"one": "cb_res_3x3"}, CandidateWeights(trained.store))


def test_a_file_of_other_weights_is_refused(trained: Context, small_graph: Graph) -> None:
    record = trained.store.get(CandidateRecord, "two/cb_res_3x3")
    assert record is not None
    trained.store.save_tensors(record.file, {"other": torch.zeros(1)})
    trained.store.put("two/cb_res_3x3", record.model_copy(update={"digest": ""}))  # as an earlier version made it
    with pytest.raises(LoadError, match=r"cb_res_3x3\.safetensors does not fit cb_res_3x3: .*other") as caught:
        build_student(small_graph, CHOICE, CandidateWeights(trained.store))
    assert "\n" not in str(caught.value)


def test_damaged_candidates_are_told_together_and_missing_ones_are_lost(trained: Context, small_graph: Graph) -> None:
    files = {record.file for record in trained.store.all(CandidateRecord).values() if record.file}
    for file in files:
        content = bytearray(trained.store.path(file).read_bytes())
        content[-1] ^= 1
        trained.store.write(file, bytes(content))
    told = rf"its content is not what the run wrote, and {len(files) - 1} other files of candidates; deleted, the same"
    with pytest.raises(LoadError, match=told):
        build_student(small_graph, CHOICE, CandidateWeights(trained.store))
    with pytest.raises(LostError, match=r"safetensors is missing; hant-opt pretrain .* makes it again") as caught:
        build_student(small_graph, CHOICE, CandidateWeights(trained.store))
    assert caught.value.kind == "candidate"
    assert PretrainPass().lost(trained).startswith("the weights of candidate ")


def test_without_a_student_the_message_says_what_to_run(trained: Context) -> None:
    with pytest.raises(UsageError, match="no student yet; run the finetune stage first"):
        load_student(trained)
