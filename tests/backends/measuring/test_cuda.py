"""The clock of a CUDA device."""

from __future__ import annotations

import time

import pytest
import torch
from hant.backends.measuring.cuda import DeviceClock, side_stream

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def test_a_reading_waits_for_what_was_enqueued_and_counts_it() -> None:
    with torch.cuda.stream(side_stream()):
        square = torch.rand(4096, 4096, device="cuda")
        clock = DeviceClock()
        for _ in range(2):
            before, started = clock(), time.perf_counter()
            for _ in range(20):
                square @ square
            elapsed, waited = clock() - before, time.perf_counter() - started
            assert torch.cuda.current_stream().query()
        assert 0.5 * waited < elapsed < 1.1 * waited


def test_it_goes_on_while_the_device_is_idle() -> None:
    clock = DeviceClock()
    before = clock()
    time.sleep(0.05)
    assert 0.04 < clock() - before < 0.5
