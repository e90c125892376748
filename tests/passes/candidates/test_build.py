import pytest
import torch
from hant.op_library.pools import operation
from hant.op_library.tensor_spec import TensorSpec
from hant.passes.candidates.build import build_candidate
from hant.transformer.ir.block import Block, BlockKind
from torch import nn

MAP = TensorSpec((4, 8, 8))


def block(*tail: nn.Module, name: str = "layer1.0") -> Block:
    module = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), *tail)
    return Block(name, BlockKind.PLAIN, "Sequential", MAP, MAP, 0, 0, True, module, "layer1", "")


def test_teacher_is_the_blocks_own_module() -> None:
    own = block(nn.ReLU())
    assert build_candidate(own, operation("teacher"), 0) is own.module


def test_names_and_seed_decide_the_weights() -> None:
    def weights(name: str, operation_name: str, seed: int) -> torch.Tensor:
        torch.rand(3)  # whatever was drawn before does not count
        return next(build_candidate(block(name=name), operation(operation_name), seed).parameters())

    first = weights("a", "cb_res_3x3", 0)
    assert torch.equal(first, weights("a", "cb_res_3x3", 0))
    assert not torch.equal(first, weights("b", "cb_res_3x3", 0))
    assert not torch.equal(first, weights("a", "cb_res_3x3", 1))


@pytest.mark.parametrize(("tail", "end"), [(nn.ReLU(), nn.ReLU), (nn.ReLU6(), nn.ReLU6)])
def test_a_candidate_ends_in_a_clamp_where_its_block_does(tail: nn.Module, end: type[nn.Module]) -> None:
    module = build_candidate(block(tail), operation("cb_res_3x3"), 0)
    assert isinstance(module, nn.Sequential)
    assert isinstance(module[-1], end)
    assert (module(MAP.random(2)) >= 0).all()


@pytest.mark.parametrize("tail", [(), (nn.SiLU(),), (nn.ReLU(), nn.BatchNorm2d(4))])
def test_no_clamp_where_the_block_has_none_at_its_end(tail: tuple[nn.Module, ...]) -> None:
    module = build_candidate(block(*tail), operation("cb_res_3x3"), 0)
    assert (module(MAP.random(2)) < 0).any()


def test_identity_gets_no_clamp() -> None:
    assert isinstance(build_candidate(block(nn.ReLU()), operation("identity"), 0), nn.Identity)
