from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from hant.passes.networks.crew import Streams, crew

CPU = torch.device("cpu")


@pytest.mark.parametrize("workers", [1, 3])
def test_all_jobs_run_each_on_one_thread_of_torch(workers: int) -> None:
    before = torch.get_num_threads()
    done: list[tuple[int, int, bool]] = []

    def job(index: int) -> None:
        done.append((index, torch.get_num_threads(), threading.current_thread() is threading.main_thread()))

    with crew(workers, CPU) as hands:
        hands.run(partial(job, i) for i in range(50))
        assert sorted(done) == [(i, 1, False) for i in range(50)]
    assert torch.get_num_threads() == before


def test_an_error_of_a_job_is_raised() -> None:
    def job() -> None:
        raise ValueError("of a job")

    with pytest.raises(ValueError, match="of a job"), crew(2, CPU) as hands:
        hands.run([job, lambda: None])


def test_jobs_are_made_only_when_they_are_needed() -> None:
    done: list[int] = []

    def jobs() -> Iterator[Callable[[], object]]:
        for index in range(100):
            assert len(done) >= index - 2
            yield partial(done.append, index)

    with crew(1, CPU) as hands:
        hands.run(jobs())
    assert done == list(range(100))


def test_a_gpu_is_fed_by_the_calling_thread() -> None:
    seen = []
    with crew(4, torch.device("meta")) as hands:
        hands.run([lambda: seen.append(threading.current_thread())])
    assert seen == [threading.main_thread()]


@pytest.mark.gpu
def test_streams_of_a_gpu_see_what_was_made_before_and_are_waited_for() -> None:
    device = torch.device("cuda")
    hands, sums = Streams(device, 3), [torch.zeros((), device=device) for _ in range(10)]

    def job(x: torch.Tensor, index: int) -> None:
        sums[index].copy_((x @ x).sum() * index)

    for _ in range(20):
        x = torch.ones(512, 512, device=device)
        hands.run(partial(job, x, index) for index in range(10))
        del x
        torch.full((512, 512), float("nan"), device=device)  # may be given the memory of x
        assert [total.item() for total in sums] == [512.0**3 * index for index in range(10)]
