"""What is cut out of a shared network is what was trained in it, to the last bit."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from hant import trace
from hant.op_library.pools import pool
from hant.op_library.slicing import in_order, sliceable_channels
from hant.passes.candidates.build import build_candidate
from hant.passes.candidates.candidates import unfit
from hant.passes.networks.assemble import CandidateWeights
from hant.passes.sharing.network import SharedBlock, SharedNetwork, recalibrate
from hant.tests.conftest import CifarResNet
from hant.transformer.errors import HantError
from hant.transformer.ir.block import Block
from hant.transformer.ir.graph import Graph
from torch import Tensor, nn


class Untrained(CandidateWeights):
    """Candidates as they are before any training."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, str], nn.Module] = {}

    def module(self, block: Block, operation: str) -> nn.Module:
        key = block.name, operation
        if key not in self.made:
            (spec,) = pool(operation)
            self.made[key] = build_candidate(block, spec, seed=0).eval()
        return self.made[key]


def operations(graph: Graph, names: str) -> dict[str, list[str]]:
    """Return the operations that fit, by block."""

    def fits(block: Block, spec: Any) -> bool:
        if unfit(block, spec):
            return False
        try:
            return build_candidate(block, spec, 0) is not None
        except HantError:
            return False

    return {b.name: [spec.name for spec in pool(names) if fits(b, spec)] for b in graph.replaceable}


def check_paths(graph: Graph, names: str, images: Tensor, count: int) -> SharedNetwork:
    """Compare random students in the shared network with copies: outputs in eval mode, and gradients in training."""
    known, draw = operations(graph, names), random.Random(0)
    assert any(len(found) > 1 for found in known.values())
    shared = SharedNetwork(graph, known, Untrained())
    for _ in range(count):
        choice = {block: draw.choice(found) for block, found in known.items()}
        student = shared.student(choice)
        with torch.no_grad():
            ours, theirs = shared.choose(choice).eval()(images), student.network.eval()(images)
        assert torch.equal(ours, theirs), choice
        check_gradients(shared, student, choice, images)
    return shared


def check_gradients(shared: SharedNetwork, student: Graph, choice: dict[str, str], images: Tensor) -> None:
    for network in (shared.network, student.network):
        network.zero_grad()
        network.train()
        torch.manual_seed(0)
        network(images).square().sum().backward()
    # As extraction copies weights, so the student's gradients are copied into the shape of the shared ones.
    copied = {name: p.grad for name, p in student.module.named_parameters()}
    for name, block in shared.blocks.items():
        target = student.block(name).target
        for key, value in block.tensors(choice[name]).items():
            theirs = copied.pop(f"{target}.{key}", None)
            if theirs is not None:
                assert torch.equal(gradient_of(block, choice[name], key, value), theirs), (name, key)
    rest = {name: p.grad for name, p in shared.graph.module.named_parameters()}
    for name, theirs in copied.items():
        assert theirs is None or torch.equal(cast(Tensor, rest[name]), theirs), name


def gradient_of(block: SharedBlock, operation: str, key: str, value: Tensor) -> Tensor:
    """Return the part of the shared gradient that belongs to a tensor of the operation; the rest of it is 0."""
    if operation not in block._slices:
        return cast(Tensor, dict(block.module(operation).named_parameters())[key].grad)
    whole = cast(Tensor, dict(block.own.named_parameters())[key].grad)
    parts = block._slices[operation][1].get(key)
    if parts is None:
        return whole
    outside = whole.clone()
    outside[parts] = 0
    assert not outside.any(), key
    return whole[parts]


def test_a_path_is_its_extracted_student(small_graph: Graph) -> None:
    names = "teacher,identity,slice_w0.5,slice_w0.25,cb_res_3x3"
    shared = check_paths(small_graph, names, torch.randn(4, 1, 8, 8), 20)
    assert len(shared.blocks) == 3


def test_a_path_of_a_residual_network_is_its_student() -> None:
    torch.manual_seed(0)
    graph = trace(CifarResNet(1).eval(), torch.zeros(1, 3, 32, 32))
    check_paths(graph, "elastic", torch.randn(2, 3, 32, 32), 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"), [("mobilenetv3_small_050", 64), ("convnext_atto", 64), ("vit_tiny_patch16_224", 224)]
)
def test_a_path_of_other_networks_is_its_student(name: str, size: int) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=10).eval()
    check_paths(trace(network, torch.zeros(1, 3, size, size)), "elastic", torch.randn(2, 3, size, size), 20)


def tensors(graph: Graph) -> list[Tensor]:
    return list(graph.module.state_dict().values())


def test_the_full_path_is_the_teacher_but_for_the_order_of_sums(small_graph: Graph) -> None:
    shared = SharedNetwork(small_graph, operations(small_graph, "teacher,slice_w0.5"), Untrained())
    images = torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        ours, teachers = shared.choose({}).eval()(images), small_graph.module(images)
    assert (ours - teachers).abs().max() <= 1e-4 * teachers.abs().max()
    for block in small_graph.replaceable:
        channels = sliceable_channels(block.module, block.input)
        ordered = in_order(block.module, channels).state_dict()
        own = shared.blocks[block.name].own.state_dict()
        assert all(torch.equal(tensor, own[name]) for name, tensor in ordered.items())


def test_the_teacher_and_the_candidates_are_left_as_they_are(small_graph: Graph) -> None:
    weights = Untrained()
    before = [tensor.clone() for tensor in tensors(small_graph)]
    small_graph.module.zero_grad()
    shared = SharedNetwork(small_graph, operations(small_graph, "teacher,cb_res_3x3,slice_w0.5"), weights)
    kept = {key: [p.detach().clone() for p in module.parameters()] for key, module in weights.made.items()}
    for operation in ("cb_res_3x3", "slice_w0.5"):
        network = shared.choose(dict.fromkeys(shared.blocks, operation)).train()
        network(torch.randn(4, 1, 8, 8)).sum().backward()
    with torch.no_grad():
        for parameter in shared.network.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(a, b) for a, b in zip(tensors(small_graph), before, strict=True))
    assert all(p.grad is None for p in small_graph.module.parameters())
    for key, module in weights.made.items():
        assert all(torch.equal(a, b) for a, b in zip(module.parameters(), kept[key], strict=True))


def test_running_statistics_of_a_slice_do_not_leak_into_the_block(small_graph: Graph) -> None:
    shared = SharedNetwork(small_graph, operations(small_graph, "teacher,slice_w0.5"), Untrained())
    before = {name: tensor.clone() for name, tensor in shared.network.named_buffers()}
    shared.choose(dict.fromkeys(shared.blocks, "slice_w0.5")).train()(torch.randn(16, 1, 8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in shared.network.named_buffers())


def test_a_students_statistics_are_those_of_its_own_features(small_graph: Graph) -> None:
    shared = SharedNetwork(small_graph, operations(small_graph, "teacher,slice_w0.5"), Untrained())
    student = shared.student(dict.fromkeys(shared.blocks, "slice_w0.5"))
    images = torch.randn(64, 1, 8, 8)
    recalibrate(student, [images])
    seen: list[Tensor] = []
    block = student.block("two").module
    norm = cast(Callable[..., Any], block.norm)
    handle = cast(nn.Module, norm).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        student.network.train()(images)
    handle.remove()
    mean = seen[0].mean((0, 2, 3))
    recalibrate(student, [images])
    assert torch.allclose(cast(Tensor, norm.running_mean), mean, atol=1e-5)  # type: ignore[attr-defined]


def test_weights_drawn_anew_are_not_the_teachers(small_graph: Graph) -> None:
    known = operations(small_graph, "teacher,slice_w0.5")
    one, same, other = (SharedNetwork(small_graph, known, Untrained(), seed) for seed in (1, 1, 2))
    first, second, third = (network.network.state_dict()["stem.weight"] for network in (one, same, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert not torch.equal(first, small_graph.module.state_dict()["stem.weight"])
