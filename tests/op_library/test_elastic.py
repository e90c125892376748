"""The narrow operation is the leading part of the wide one, to the last bit, whatever is in its place in training."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hant.op_library.elastic import Elastic, kind_of, leading, strongest_first, width_of
from hant.op_library.pools import operation
from hant.op_library.tensor_spec import Layout, TensorSpec
from hant.transformer.errors import UnfitError
from torch import nn

LADDERS = {
    "efn": ["efn_3x3_e1.5_se0.25", "efn_3x3_e2_se0.25", "efn_3x3_e4_se0.25"],
    "efnv2": ["efnv2_3x3_e0.5_se0.25", "efnv2_3x3_e1_se0.25", "efnv2_3x3_e3_se0.25"],
    "cb_stack": ["cb_stack_3x3_ex0.25", "cb_stack_3x3_ex0.5", "cb_stack_3x3_ex1.5"],
    "cb_bottle": ["cb_bottle_3x3_ex0.25", "cb_bottle_3x3_ex0.5", "cb_bottle_3x3_ex1.5"],
}
MAPS = [
    (TensorSpec((16, 9, 9)), TensorSpec((16, 9, 9))),
    (TensorSpec((16, 9, 9)), TensorSpec((24, 5, 5))),
    (TensorSpec((9, 9, 16), layout=Layout.NHWC), TensorSpec((9, 9, 16), layout=Layout.NHWC)),
]


def built(
    names: list[str], before: TensorSpec, after: TensorSpec, randomise: object
) -> tuple[Elastic, list[nn.Module]]:
    torch.manual_seed(0)
    modules = [operation(name).build(before, after).double() for name in names]
    assert callable(randomise)
    widest = randomise(modules[-1])
    return Elastic(widest, dict(zip(names[:-1], modules[:-1], strict=True)), names[-1]), modules


TOKENS = (TensorSpec((9, 16), layout=Layout.TOKENS), TensorSpec((9, 16), layout=Layout.TOKENS))


@pytest.mark.parametrize("family", LADDERS)
@pytest.mark.parametrize("training", [False, True])
def test_what_is_cut_out_computes_what_the_path_did(family: str, training: bool, randomise: object) -> None:
    pointwise = [name.replace("3x3", "1x1") for name in LADDERS[family]]
    for before, after, ladder in [*((a, b, LADDERS[family]) for a, b in MAPS), (*TOKENS, pointwise)]:
        elastic, modules = built(ladder, before, after, randomise)
        elastic.train(training)
        x = before.random(4, torch.Generator().manual_seed(1)).double()
        for name, module, skeleton in zip(ladder, modules, (*elastic.skeletons, None), strict=True):
            for part in (skeleton or module).modules():
                part.training = training
            module.load_state_dict(elastic.cut(name))
            with torch.no_grad():
                assert torch.equal(module.train(training)(x), elastic(x, name))


def test_a_path_trains_the_leading_part_of_the_widest_alone(randomise: object) -> None:
    elastic, modules = built(LADDERS["cb_stack"], *MAPS[0], randomise)
    elastic(MAPS[0][0].random(2).double(), LADDERS["cb_stack"][0]).square().sum().backward()
    weight = elastic.widest.get_parameter("body.0.0.weight")
    narrow = modules[0].get_parameter("body.0.0.weight")
    assert weight.grad is not None
    assert weight.grad[: len(narrow)].abs().min() > 0
    assert weight.grad[len(narrow) :].abs().max() == 0


def saved_bytes(rungs: int, large_alone: bool = False) -> int:
    """Return what a step at half and whole width keeps for its way back; the ladder ends at 256 channels."""
    before = TensorSpec((16, 6, 6))
    names = [f"cb_stack_3x3_ex{16 * (rung + 1) / rungs}" for rung in range(rungs)]
    with torch.device("meta"):
        narrower = {name: operation(name).build(before, before) for name in names[:-1]}
    elastic = Elastic(operation(names[-1]).build(before, before), narrower, names[-1])
    total, seen = 0, set[int]()

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal total
        storage = tensor.untyped_storage()
        total += storage.nbytes() * (storage.data_ptr() not in seen)
        seen.add(storage.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        x = before.random(64, torch.Generator().manual_seed(0))
        made = [elastic(x, name) for name in names[rungs // 2 - 1 :: rungs // 2][large_alone:]]
    assert len(made) == 2 - large_alone
    return total


def test_memory_of_a_step_does_not_grow_with_the_number_of_widths() -> None:
    found = {saved_bytes(rungs) for rungs in (4, 16, 64, 256)}
    assert len(found) == 1
    assert found.pop() <= 2.05 * saved_bytes(4, large_alone=True)


@pytest.mark.parametrize("family", ["efn", "efnv2", "cb_stack", "cb_bottle"])
def test_names_give_every_width_back(family: str) -> None:
    for channels in (16, 24, 96, 448, 1000, 4096):
        for inner in range(16, 8 * channels + 1, 16 * (1 + channels // 256)):
            width = inner / channels
            name = f"{family}_3x3_e{width:g}_se1.00" if family.startswith("efn") else f"{family}_3x3_ex{width}"
            spec = operation(name)
            assert spec.name == name
            assert round(channels * width_of(spec)) == inner


def test_names_of_one_kind_differ_in_their_width_only() -> None:
    kinds = {kind_of(operation(name)) for name in LADDERS["efn"]}
    assert len(kinds) == 1
    assert kind_of(operation("efn_5x5_e2_se0.25")) not in kinds
    assert (
        kind_of(operation("slice_w0.5_k3")) == kind_of(operation("slice_w0.25_k3")) != kind_of(operation("slice_w0.5"))
    )
    assert kind_of(operation("cb_res_3x3")) is None


def test_what_is_no_part_is_told() -> None:
    before, after = MAPS[0]
    wide, other = (
        operation("efn_3x3_e3_se1.00").build(before, after),
        operation("efn_3x3_e1_se1.00").build(before, after),
    )
    with pytest.raises(UnfitError, match="no part of the wider one: only one of them has body"):
        leading(wide, other)
    narrow, wider = (operation(f"cb_stack_3x3_ex{width}").build(before, after) for width in (0.5, 1.0))
    with pytest.raises(UnfitError, match=r"its body.0.0.weight is \(16, 16, 3, 3\), the wider one's \(8, 16, 3, 3\)"):
        leading(narrow, wider)


def test_the_strongest_channels_come_first(randomise: object) -> None:
    elastic, _ = built(LADDERS["cb_stack"], *MAPS[0], randomise)
    spec = TensorSpec((16, 9, 9), dtype="float64")
    x = spec.random(2, torch.Generator().manual_seed(0))
    ordered = strongest_first(elastic.widest.eval(), spec)
    with torch.no_grad():
        assert torch.allclose(ordered.eval()(x), elastic.widest(x), rtol=0, atol=1e-12)
    strength = ordered.get_parameter("body.1.0.weight").detach().abs().sum((0, 2, 3)).tolist()
    assert all(a >= b for a, b in pairwise(strength))
