"""Two layers computed by hand: loss, latency, and the gradients of all that is searched."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
import torch
from hant.op_library.elastic import Elastic
from hant.passes.searching.prunet.ladder import Ladder, ladders
from hant.passes.searching.prunet.layer import Place, StochasticLayer
from hant.passes.searching.prunet.price import Price
from hant.passes.searching.prunet.schedule import SKIP, Layer
from hant.passes.searching.prunet.walk import Walk
from torch import Tensor, nn

ALPHA, TAU, FIXED, SLOPE, GOAL = 0.7, 0.8, 0.3, 1.1, 2.0


class Scale(Elastic):
    """Operations that multiply by a number each."""

    def __init__(self, factors: Mapping[str, float]) -> None:
        nn.Module.__init__(self)
        self.factors = factors

    def forward(self, x: Tensor, name: str) -> Tensor:
        return self.factors[name] * x


NARROW_TO_WIDE = Ladder(("w1", "w2", "w3", "w4"), (0.1, 0.2, 0.4, 0.5))
FIRST = [Ladder(("teacher",), (0.9,)), NARROW_TO_WIDE]
SECOND = [Ladder(("only",), (0.25,))]
FACTORS = {"teacher": 1.5, "w1": 0.2, "w2": 0.5, "w3": 0.9, "w4": 1.1, "only": 1.3}


def two_layers() -> tuple[list[Place], nn.Sequential]:
    """The first of a fixed operation and a Prunode at rungs 2 and 4, the second in the contest with its skip."""
    places = [Place("one", FIRST, None, Walk(1)), Place("two", SECOND, 0.0, Walk(1))]
    places[1].left = Layer((0, SKIP), skips=False)
    with torch.no_grad():
        places[0].theta[:2] = torch.tensor([0.3, -0.2], dtype=torch.float64)
        places[0].weights[1] = 0.4
        places[1].theta[:] = torch.tensor([0.1, -0.5], dtype=torch.float64)
    layers = []
    for place in places:
        modules = [nn.Identity() if ladder.names == ("teacher",) else Scale(FACTORS) for ladder in place.ladders]
        layers.append(StochasticLayer(place.ladders, modules, nn.Identity()))
    layers[0].operations[0] = Times(FACTORS["teacher"])
    return places, nn.Sequential(*layers)


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def noises() -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.gumbel(size=3 + 4), random.gumbel(size=2 + 2)]


def by_hand(theta: np.ndarray, weight: float, last: np.ndarray) -> float:
    """Return the loss of the two layers for an input of 1, written out."""
    one, two = noises()
    a = np.exp((theta + one[:2]) / TAU)
    a /= a.sum()
    b = np.exp((np.array([0, weight]) + one[3 + 2 : 3 + 4]) / TAU)
    b /= b.sum()
    c = np.exp((last + two[[0, 1]]) / TAU)
    c /= c.sum()
    first = a[0] * FACTORS["teacher"] + a[1] * (b[0] * FACTORS["w2"] + b[1] * FACTORS["w4"])
    second = 0.55 * c[0] * FACTORS["only"] + 1.1 * c[1]
    ms = a[0] * 0.9 + a[1] * (b[0] * 0.2 + b[1] * 0.5) + c[0] * 0.25
    return float((first * second - GOAL) ** 2 + ALPHA * math.log(1000 * (FIXED + SLOPE * ms)) ** 0.6)


def test_loss_latency_and_gradients_are_those_computed_by_hand() -> None:
    places, network = two_layers()
    mixed = [
        place.mixture(torch.from_numpy(noise), TAU, (1.1, 0.55)) for place, noise in zip(places, noises(), strict=True)
    ]
    for layer, (shares, _) in zip(network, mixed, strict=True):
        assert isinstance(layer, StochasticLayer)
        layer.plan = tuple(shares)
    x = torch.ones((), dtype=torch.float64)
    price = Price(FIXED, SLOPE, 1.0)
    loss = (network(x) - GOAL) ** 2 + price.term(torch.stack([ms for _, ms in mixed]).sum(), ALPHA)
    searched = [places[0].theta, places[0].weights, places[1].theta]
    gradients = [gradient.numpy() for gradient in torch.autograd.grad(loss, searched)]
    start = np.array([0.3, -0.2, 0.4, 0.1, -0.5])

    def told(values: np.ndarray) -> float:
        return by_hand(values[:2], float(values[2]), values[3:])

    assert loss.item() == pytest.approx(told(start), abs=1e-10)
    found = np.array([*gradients[0][:2], gradients[1][1], *gradients[2]])
    for index, value in enumerate(found):
        assert value == pytest.approx(slope_of(told, start, index), abs=1e-10)
    assert gradients[0][2] == gradients[1][0] == 0  # what is not there


def slope_of(function: object, start: np.ndarray, index: int) -> float:
    """Return the derivative by differences of the sixth order, extrapolated: exact to about 1e-12."""
    assert callable(function)
    unit = np.eye(len(start))[index]
    h = 0.02

    def central(step: float) -> float:
        return float((function(start + step * unit) - function(start - step * unit)) / (2 * step))

    table = [central(h / 2**k) for k in range(5)]
    for order in range(1, 5):
        table = [(4**order * b - a) / (4**order - 1) for a, b in pairwise(table)]
    return table[0]


def test_a_drawn_operation_and_its_other_width() -> None:
    place = Place("one", [NARROW_TO_WIDE], None, Walk(1))
    quiet = torch.zeros(2 + 2, dtype=torch.float64)
    with torch.no_grad():
        place.weights[0] = 1.0
    first, other = place.drawn(quiet, (1.1, 0.55))
    assert [(share.choice, share.rung, share.weight) for share in (*first, *other)] == [(0, 4, None), (0, 2, None)]
    with torch.no_grad():
        place.weights[0] = -1.0
    first, other = place.drawn(quiet, (1.1, 0.55))
    assert [share.rung for share in (*first, *other)] == [2, 4]


def test_factors_are_those_of_a_contest_with_what_trains() -> None:
    contest = Place("two", SECOND, 0.0, Walk(1))
    assert contest.factor(0, (1.1, 0.55)) == 1  # no contest yet
    contest.left = Layer((0, SKIP), skips=False)
    assert (contest.factor(SKIP, (1.1, 0.55)), contest.factor(0, (1.1, 0.55))) == (1.1, 0.55)
    own = Place("one", FIRST, 0.0, Walk(1))
    own.left = Layer((0, SKIP), skips=False)
    assert (own.factor(SKIP, (1.1, 0.55)), own.factor(0, (1.1, 0.55))) == (1, 1)


def test_a_skip_begins_as_probable_as_what_is_left() -> None:
    place = Place("one", FIRST, 0.0, Walk(1))
    with torch.no_grad():
        place.theta[:2] = torch.tensor([2.0, -2.0])
    assert place.look(0.5, 2) == [1]
    assert place.alive == (0, SKIP)
    assert place.probabilities().tolist() == [0.5, 0.5]
    assert place.best()[0] == 0


def test_ladders_leave_out_what_is_no_faster_than_a_larger_width() -> None:
    found = ladders({
        "identity": 0.0,
        "teacher": 3.0,
        "cb_stack_3x3_ex1.0": 2.0,
        "cb_stack_3x3_ex0.25": 1.99,
        "cb_stack_3x3_ex0.125": 1.0,
        "cb_res_3x3": 1.5,
        "slice_w0.5": 1.0,
        "slice_w0.5_k3": 0.8,
    })  # fmt: skip
    assert [ladder.names for ladder in found] == [
        ("teacher",),
        ("cb_stack_3x3_ex0.125", "cb_stack_3x3_ex1.0"),
        ("cb_res_3x3",),
        ("slice_w0.5",),
        ("slice_w0.5_k3",),
    ]
    assert found[1].ms == (1.0, 2.0)


def test_the_price_rises_over_the_limit_and_falls_below_it() -> None:
    price = Price(fixed_ms=0.5, slope=1.0, limit_ms=1.5)
    assert price.ascended(1.0, 2.5) == pytest.approx(1.5**0.05)
    assert price.ascended(1.0, 0.5) == pytest.approx(0.5**0.05)
    ms = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    price.term(ms, price.start(1.5)).backward()  # type: ignore[no-untyped-call]
    assert ms.grad is not None
    assert ms.grad.item() * price.whole(1.5) == pytest.approx(1.0)  # nats for an e-fold
