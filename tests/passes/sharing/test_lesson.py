"""The passes of a step: what they add up to, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hant.passes.finetuning.labels import Labels
from hant.passes.finetuning.loop import Loop
from hant.passes.finetuning.parallel import Parallel
from hant.passes.finetuning.recipe import FinetuneRecipe
from hant.passes.finetuning.state import FinetuneState
from hant.passes.networks.assemble import build_student, independent
from hant.passes.sharing.lesson import SharedFeatures, SharedLabels
from hant.passes.sharing.network import SharedNetwork
from hant.passes.sharing.plan import Plan, Turn
from hant.passes.sharing.recipe import SharedLabelsRecipe
from hant.passes.sharing.schedule import SCHEDULES, adjusted
from hant.tests.passes.sharing.test_network import Untrained, operations
from hant.transformer.contracts.task import Classification
from hant.transformer.data.images import ImageTensors
from hant.transformer.ir.graph import Graph
from torch import Tensor, nn

HALF = {"one": "slice_w0.5", "two": "slice_w0.5", "three": "slice_w0.5"}
THIN = {"one": "identity", "two": "slice_w0.5", "three": "identity"}


class Fixed(Plan):
    """The same passes in each step, whatever the schedule says."""

    def turns(self, step: int) -> tuple[Turn, ...]:
        return TURNS[self.draw]


TURNS: dict[str, tuple[Turn, ...]] = {}


def plan(name: str, turns: tuple[Turn, ...], *, teach: str = "full") -> Plan:
    TURNS[name] = turns
    schedule = adjusted(SCHEDULES["sandwich"], teach=teach)
    return Fixed(schedule=schedule, total=4, front=(), operations=(), outside=1, any=True, draw=name)


def recipe(made: Plan) -> SharedLabelsRecipe:
    return SharedLabelsRecipe(
        epochs=1, steps=4, batch_size=12, learning_rate=0.05, seed=0, start="", augment=False, plan=made
    )


def lesson_of(graph: Graph, made: Plan) -> tuple[SharedLabels, FinetuneRecipe, SharedNetwork]:
    shared = SharedNetwork(graph, operations(graph, "teacher,identity,slice_w0.5"), Untrained())
    how = recipe(made)
    others = replace(how, cross_entropy=made.schedule.labels)
    return SharedLabels(shared, graph.module, Classification(), made, how, others), how, shared


def trained(graph: Graph, made: Plan) -> dict[str, Tensor]:
    """Return the parameters after four steps."""
    lesson, how, shared = lesson_of(graph, made)
    state = FinetuneState(shared.network, how.make_optimizer(shared.network.parameters()))
    generator = torch.Generator().manual_seed(0)
    data = ImageTensors(torch.randn(48, 1, 8, 8, generator=generator), torch.arange(48) % 10)
    cpu = torch.device("cpu")
    Loop(state, lesson, how, data, None, cpu, Parallel(cpu)).epoch()
    return {name: p.detach().clone() for name, p in shared.network.named_parameters()}


def test_where_epsilon_is_0_the_full_network_learns_as_alone(small_graph: Graph) -> None:
    full = Turn({}, True)
    alone = trained(small_graph, plan("alone", (full,)))
    beside = trained(small_graph, plan("beside", (full, Turn(HALF, False, 0.0), Turn(THIN, False, 0.0))))
    other = trained(small_graph, plan("other", (full, Turn(HALF, False, 1.0))))
    assert all(torch.equal(tensor, alone[name]) for name, tensor in beside.items())
    assert not all(torch.equal(tensor, alone[name]) for name, tensor in other.items())


class AsFinetune(SharedLabelsRecipe):
    """Random numbers are drawn by the name of the stage."""

    name = "finetune"


def test_one_student_taught_by_the_frozen_teacher_learns_what_finetuning_teaches(small_graph: Graph) -> None:
    choice = {"one": "identity", "two": "cb_res_3x3", "three": "teacher"}
    weights, cpu = Untrained(), torch.device("cpu")
    generator = torch.Generator().manual_seed(0)
    data = ImageTensors(torch.randn(48, 1, 8, 8, generator=generator), torch.arange(48) % 10)
    made = plan("one", (Turn(choice, False),), teach="teacher")
    made = replace(made, schedule=replace(made.schedule, labels=1.0))
    how = AsFinetune(epochs=1, steps=4, batch_size=12, learning_rate=0.05, seed=0, start="", augment=False, plan=made)
    shared = SharedNetwork(small_graph, {block: ["teacher", name] for block, name in choice.items()}, weights)
    alone = independent(build_student(small_graph, choice, weights))
    lessons = (
        (SharedLabels(shared, small_graph.module, Classification(), made, how, how), shared.network),
        (Labels(alone.network, small_graph.module, Classification(), how), alone.network),
    )
    for lesson, network in lessons:
        state = FinetuneState(network, how.make_optimizer(network.parameters()))
        Loop(state, lesson, how, data, None, cpu, Parallel(cpu)).epoch()
    student = shared.student(choice)
    wanted = dict(alone.network.named_parameters())
    found = dict(student.network.named_parameters())
    assert found.keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.items())


def gradients(lesson: SharedLabels, shared: SharedNetwork, turns: tuple[Turn, ...]) -> dict[str, Tensor]:
    """Return the gradients of a step with these passes, in double precision."""
    TURNS["sum"] = turns
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(12, 1, 8, 8, generator=generator).double()
    labels = torch.arange(12) % 10
    shared.network.zero_grad()
    lesson.begin()
    for index in range(lesson.turns(0)):
        lesson.turn(index)
        lesson.loss(lesson.learner, images, labels).backward()  # type: ignore[no-untyped-call]
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in shared.network.named_parameters()}


def test_a_steps_gradient_is_the_sum_of_its_passes(small_graph: Graph) -> None:
    lesson, _, shared = lesson_of(small_graph, plan("sum", (), teach="teacher"))
    shared.network.double()
    small_graph.module.double()
    try:
        full, half, thin = Turn({}, True), Turn(HALF, False), Turn(THIN, False)
        parts = [gradients(lesson, shared, (turn,)) for turn in (full, half, thin)]
        whole = gradients(lesson, shared, (full, replace(half, weight=0.3), replace(thin, weight=0.3)))
    finally:
        small_graph.module.float()
    for name, found in whole.items():
        wanted = parts[0][name] + 0.3 * (parts[1][name] + parts[2][name])
        assert (found - wanted).abs().max() <= 1e-12 * max(1.0, wanted.abs().max().item()), name


def test_students_that_are_taught_in_place_learn_the_full_networks_answers_and_nothing_flows_into_it(
    small_graph: Graph,
) -> None:
    lesson, _, shared = lesson_of(small_graph, plan("place", (Turn({}, True), Turn(HALF, False))))
    lesson.begin()
    lesson.turns(0)
    images, labels = torch.randn(12, 1, 8, 8), torch.zeros(12, dtype=torch.long)
    lesson.turn(0)
    lesson.loss(lesson.learner, images, labels)
    with torch.no_grad():
        answers = shared.choose({})(images).log_softmax(1)
    lesson.turn(1)
    shared.network.zero_grad()
    loss = lesson.loss(lesson.learner, images, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        ours = shared.choose(HALF)(images).log_softmax(1)
    wanted = nn.functional.kl_div(ours, answers, reduction="batchmean", log_target=True)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)
    outside = shared.blocks["one"].own.conv.weight.grad  # type: ignore[union-attr]
    assert isinstance(outside, Tensor)
    assert outside[4:].abs().sum() == 0 < outside[:4].abs().sum()


def test_features_need_no_labels_and_skip_students_that_have_nothing_to_learn(small_graph: Graph) -> None:
    shared = SharedNetwork(small_graph, operations(small_graph, "teacher,identity,slice_w0.5"), Untrained())
    made = plan("features", (Turn(HALF, False), Turn(THIN, False)))
    lesson = SharedFeatures(shared, small_graph, {block.name: 1.0 for block in small_graph.blocks}, made, 0.25)
    lesson.begin()
    assert lesson.turns(0) == 2
    for index in range(2):
        lesson.turn(index)
        lesson.loss(lesson.learner, torch.randn(4, 1, 8, 8), None).backward()  # type: ignore[no-untyped-call]
    lesson.shape()
    lengths = [torch.cat([p.grad.flatten() for p in ps if p.grad is not None]).norm() for ps in lesson.blocks]
    assert torch.stack(lengths) == pytest.approx(torch.ones(3), rel=1e-5)
