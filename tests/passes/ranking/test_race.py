"""The race against sorting: same order, no more steps than any certain rule needs."""

import math
from dataclasses import dataclass, field

import torch
from hant.passes.ranking.measures import Totals, measure
from hant.passes.ranking.race import finishing_order
from hant.transformer.contracts.task import Classification
from hypothesis import given
from hypothesis import strategies as st

COSTS = st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=1, max_size=8)


@dataclass
class Lane:
    index: int
    costs: list[int]
    done: int = 0
    steps: list[int] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return self.done == len(self.costs)

    @property
    def bound(self) -> float:
        return float(sum(self.costs[: self.done]))

    def advance(self) -> None:
        assert not self.complete
        self.done += 1


@given(COSTS)
def test_order_is_that_of_the_totals_with_ties_by_index(costs: list[list[int]]) -> None:
    lanes = [Lane(index, row) for index, row in enumerate(costs)]
    found = [lane.index for lane in finishing_order(lanes)]
    assert found == sorted(range(len(costs)), key=lambda i: (sum(costs[i]), i))


@given(COSTS)
def test_losers_stop_as_soon_as_they_are_behind_the_winners_total(costs: list[list[int]]) -> None:
    lanes = [Lane(index, row) for index, row in enumerate(costs)]
    winner = next(finishing_order(lanes))
    for lane in lanes:
        if lane.done:
            before_last = sum(lane.costs[: lane.done - 1])
            assert (before_last, lane.index) <= (winner.bound, winner.index)


def test_certain_bound_never_exceeds_the_total_and_confident_is_above_it() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(1000, generator=generator).square() * 3
    totals = Totals()
    for start in range(0, 1000, 100):
        part = values[start : start + 100]
        totals.add(dict.fromkeys(("loss", "wrong", "kl", "feature_mse"), part))
        certain, confident = totals.least("loss", 1000), totals.least("loss", 1000, 5.0)
        assert certain <= confident <= values.double().sum().item() + 1e-9
    assert totals.least("loss", 1000, 5.0) == totals.sums["loss"]


def test_a_bound_with_a_floor_counts_what_images_may_take_off() -> None:
    totals = Totals()
    totals.add({"loss": torch.full((4,), 0.5)})
    assert totals.least("loss", 10, floor=-1.0) == 2.0 - 6.0
    assert totals.least("loss", 10, floor=-math.inf) == -math.inf
    assert totals.least("loss", 4, floor=-math.inf) == 2.0


def test_what_is_no_number_loses_and_stays_comparable() -> None:
    totals = Totals()
    totals.add({"loss": torch.tensor([1.0, float("nan")]), "wrong": torch.tensor([0.0, 1.0])})
    assert totals.sums["loss"] > 1e29
    assert totals.least("loss", 100, 5.0) > 1e29


def test_measures_agree_with_torch() -> None:
    generator = torch.Generator().manual_seed(1)
    ours, theirs = torch.randn(2, 5, 7, generator=generator)
    labels = torch.randint(7, (5,), generator=generator)
    first, second = torch.randn(2, 5, 3, 2, 2, generator=generator)
    found = measure(Classification(), ours, torch.zeros(5, 1), labels, first, (theirs, second))
    probability = theirs.softmax(1)
    kl = (probability * (theirs.log_softmax(1) - ours.log_softmax(1))).sum(1)
    assert torch.allclose(found["loss"], torch.nn.functional.cross_entropy(ours, labels, reduction="none"))
    assert torch.allclose(found["kl"], kl, atol=1e-6)
    assert torch.allclose(found["feature_mse"].mean(), torch.nn.functional.mse_loss(first, second))
    assert found["wrong"].sum() == (ours.argmax(1) != labels).sum()
