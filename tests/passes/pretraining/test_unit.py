from __future__ import annotations

import pytest
import torch
from hant.op_library.pools import operation
from hant.passes.pretraining.unit import Outcome, Pair, Unit, out_of_memory, unusable


def outcome(failure: str = "", error: float | None = 0.5, weight: float = 1.0) -> Outcome:
    return Outcome(9, 9, 1.0, failure, error, {"w": torch.tensor([weight])}, {})


def test_a_failed_allocation_of_the_cpu_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as failed:
        torch.empty(2**50)
    assert out_of_memory(failed.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as other:
        torch.empty(2, 3) @ torch.empty(2, 3)
    assert not out_of_memory(other.value)


def test_halves_hold_every_pair_once() -> None:
    pairs: tuple[Pair, ...] = tuple(("one", operation(name)) for name in ("identity", "cb_res_1x1", "dbb_1x1"))
    first, second = Unit(pairs, 3, 9).halves()
    assert first.pairs + second.pairs == pairs
    assert first.pairs
    assert second.pairs
    assert {(unit.start, unit.stop) for unit in (first, second)} == {(3, 9)}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (outcome(), ""),
        (outcome(error=None), ""),
        (outcome(failure="loss is nan"), "loss is nan"),
        (outcome(error=float("inf")), "error on held-out images is inf"),
        (outcome(weight=float("nan")), "tensor w is not finite after training"),
    ],
)
def test_what_is_no_number_is_unusable(found: Outcome, reason: str) -> None:
    assert unusable(found) == reason
