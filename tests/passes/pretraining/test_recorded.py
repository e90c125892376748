from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from hant.passes.pretraining.recorded import Fastest, UnavailableError
from torch import Tensor


def test_the_fastest_way_is_kept_and_every_call_takes_one_step() -> None:
    taken: list[str] = []

    def way(name: str, seconds: float) -> Callable[[Tensor], None]:
        def step(images: Tensor) -> None:
            time.sleep(seconds)
            taken.append(name)

        return step

    step = Fastest((way("slow", 0.05), way("fast", 0.0), way("slower", 0.1)), lambda: None)
    for calls in range(1, 21):
        step(torch.zeros(1))
        assert len(taken) == calls

    assert taken[:12] == ["slow"] * 4 + ["fast"] * 4 + ["slower"] * 4
    assert taken[12:] == ["fast"] * 8


def test_the_first_step_of_a_way_is_not_timed() -> None:
    taken: list[str] = []

    def slow_at_first(images: Tensor) -> None:
        time.sleep(0.0 if "first" in taken else 0.3)
        taken.append("first")

    def steady(images: Tensor) -> None:
        time.sleep(0.05)
        taken.append("steady")

    step = Fastest((slow_at_first, steady), lambda: None)
    for _ in range(12):
        step(torch.zeros(1))
    assert taken[8:] == ["first"] * 4


def test_a_way_that_is_not_to_be_had_is_left_out_without_losing_a_step() -> None:
    taken: list[float] = []

    def plain(images: Tensor) -> None:
        taken.append(images.item())

    def refused(images: Tensor) -> None:
        raise UnavailableError("operation not permitted when stream is capturing")

    step = Fastest((plain, refused), lambda: None)
    for index in range(10):
        step(torch.tensor(float(index)))
    assert taken == [float(index) for index in range(10)]


def test_other_errors_are_raised() -> None:
    def broken(images: Tensor) -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        Fastest((broken, broken), lambda: None)(torch.zeros(1))
