"""The supernet: any choice, any mixture, statistics of the batch, and nothing of the teacher's is ever written."""

import copy

import pytest
import torch
from hant.passes.networks.assemble import CandidateWeights, build_student
from hant.passes.networks.supernet import Supernet, statistics_of
from hant.passes.ranking.judge import Judge, Protocol
from hant.passes.selecting.table import search_table
from hant.transformer.contracts.context import Context
from torch import nn


def test_a_choice_is_the_assembled_network_to_the_bit(scored: Context) -> None:
    supernet, images = Supernet(scored), torch.randn(4, 1, 12, 12)
    choice = {block.name: "cb_res_3x3" for block in scored.teacher.replaceable}
    student = build_student(scored.teacher, choice, CandidateWeights(scored.store))
    assert torch.equal(supernet.outputs(choice, images), student.module.eval()(images))


def test_a_mixture_of_one_is_the_choice_and_gradients_reach_the_weights(scored: Context) -> None:
    supernet, images = Supernet(scored), torch.randn(4, 1, 12, 12)
    table = search_table(scored.store, scored.teacher)
    operations = dict(zip(table.blocks, table.operations, strict=True))
    weights = {block: torch.eye(len(names))[1].requires_grad_() for block, names in operations.items()}
    mixed = supernet.mix(operations, weights)(images)
    mixed.sum().backward()
    choice = {block: names[1] for block, names in operations.items()}
    torch.testing.assert_close(mixed.detach(), supernet.outputs(choice, images), rtol=1e-4, atol=1e-4)
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights.values())


def test_statistics_of_the_batch_are_those_of_training_and_leave_no_trace() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.BatchNorm2d(4)).eval()
    twin, images = copy.deepcopy(network), 3 + 2 * torch.randn(8, 3, 6, 6)
    for layer in twin:
        layer.train(isinstance(layer, nn.BatchNorm2d))
    with statistics_of(network, "batch"):
        inside = network(images)
    assert torch.equal(inside, twin(images))
    assert not torch.allclose(inside, network(images))
    for name, tensor in network.state_dict().items():
        assert (
            torch.equal(tensor, torch.ones(4) if "var" in name else torch.zeros_like(tensor)) or "running" not in name
        )
        assert name.endswith("tracked") is False or tensor == 0


def test_constant_statistics_give_the_same_values_and_gradients_of_each_image_alone() -> None:
    torch.manual_seed(0)
    network, images = nn.BatchNorm1d(3).eval(), torch.randn(6, 3, requires_grad=True)
    with statistics_of(network, "batch"):
        plain = network(images)
    with statistics_of(network, "batch", constant=True):
        constant = network(images)
    torch.testing.assert_close(constant, plain)
    (through,) = torch.autograd.grad(plain.sum(), images)
    (given,) = torch.autograd.grad(constant.sum(), images)
    torch.testing.assert_close(through, torch.zeros_like(through), atol=1e-5, rtol=0)
    torch.testing.assert_close(given, (images.var(0, correction=0) + network.eps).rsqrt().expand(6, 3))
    assert torch.equal(network.state_dict()["running_mean"], torch.zeros(3))


def test_statistics_come_back_after_an_error() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2)).eval()
    with pytest.raises(KeyError), statistics_of(network, "batch"):
        raise KeyError
    assert network[0].running_mean is not None
    assert network(torch.ones(1, 2)).shape == (1, 2)


def test_a_judge_by_the_batch_is_told_apart_and_keeps_small_rests_with_the_last_batch(scored: Context) -> None:
    running, batch = (Judge(scored, Protocol(100, 40, statistics=kind)) for kind in ("running", "batch"))
    assert [running.end(0), running.end(40), running.end(80)] == [40, 80, 100]
    assert [batch.end(0), batch.end(40), batch.end(80)] == [40, 80, 100]
    rest = Judge(scored, Protocol(90, 40, statistics="batch"))
    assert [rest.end(0), rest.end(40)] == [40, 90]
    choice = {block.name: "cb_res_3x3" for block in scored.teacher.replaceable}
    assert running.key(choice) != batch.key(choice)
    assert running.totals(choice).samples == batch.totals(choice).samples == 100
    assert batch.totals(choice).mean("loss") != running.totals(choice).mean("loss")
    teacher = {block.name: "teacher" for block in scored.teacher.replaceable}
    assert running.totals(teacher).sums["kl"] == 0
