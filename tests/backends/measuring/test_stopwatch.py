"""The stopwatch, on a simulated machine whose clock moves only when a call runs: nothing depends on real time."""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Callable

import pytest
from hant.backends.measuring.statistics import ratio_interval
from hant.backends.measuring.stopwatch import interleave
from hant.transformer.contracts.timing import Protocol, Timing

QUICK = Protocol(warmup_seconds=0.01, rounds=10, max_rounds=60, min_sample_ms=0.0)

NOISY = Protocol(warmup_seconds=0.01, min_sample_ms=0.0)


class Machine:
    """Calls cost what they say times the machine's present slowness."""

    def __init__(self, slowness: Callable[[float], float] = lambda now: 1.0) -> None:
        self.now = 0.0
        self.slowness = slowness
        self.calls: list[str] = []
        self.interruptions = 0

    def clock(self) -> float:
        return self.now

    def interrupted(self) -> int:
        return self.interruptions

    def call(self, name: str, ms: float) -> Callable[[], None]:
        def run() -> None:
            self.calls.append(name)
            self.now += ms / 1000 * self.slowness(self.now)

        return run

    def time(self, *costs: float, protocol: Protocol = QUICK, seed: int = 0) -> tuple[Timing, ...]:
        calls = [self.call(str(index), ms) for index, ms in enumerate(costs)]
        return interleave(calls, protocol, seed, self.clock, self.interrupted)


def test_a_steady_machine_gives_exact_times() -> None:
    one, two = Machine().time(1.0, 2.5)
    assert one.ms == pytest.approx(1.0)
    assert two.ms == pytest.approx(2.5)
    assert one.converged
    assert len(one.samples) == QUICK.rounds
    assert two.low == pytest.approx(two.high)


def test_a_steady_drift_cancels_within_each_round() -> None:
    one, two = Machine(lambda now: 1 + 0.2 * now).time(1.0, 1.0)
    assert ratio_interval(two, one).value == pytest.approx(1.0, abs=1e-4)


def test_rounds_in_which_the_machine_drifted_are_thrown_away() -> None:
    # every seventh to ninth millisecond is three times as slow: rounds that meet it are useless
    burst = Machine(lambda now: 3.0 if int(now * 1000) % 30 in (7, 8, 9) else 1.0)
    one, two = burst.time(1.0, 2.0)
    assert one.converged
    assert max(one.samples) <= 1.0 * (1 + QUICK.drift)
    assert two.ms == pytest.approx(2.0, rel=0.01)


def test_a_machine_that_never_settles_still_answers_and_says_so() -> None:
    noise = random.Random(0)
    one, two = Machine(lambda _: noise.uniform(0.5, 2.0)).time(1.0, 1.0)
    assert not one.converged
    assert not two.converged
    assert len(one.samples) == len(two.samples) >= 3


def test_each_call_says_for_itself_whether_it_is_known_well_enough() -> None:
    machine, noise = Machine(), random.Random(0)
    wild = machine.call("wild", 1.0)

    def run() -> None:
        machine.now += noise.uniform(0.0, 0.002)
        wild()

    calls = [machine.call("reference", 1.0), machine.call("steady", 2.0), run]
    timings = interleave(calls, QUICK, 0, machine.clock, machine.interrupted)
    assert [timing.converged for timing in timings] == [True, True, False]
    assert len(timings[0].samples) == QUICK.max_rounds


def test_a_machine_that_never_settles_is_given_up_after_a_while() -> None:
    noise = random.Random(0)
    hurried = QUICK.model_copy(update={"max_seconds": 0.02})
    (timing,) = Machine(lambda _: noise.uniform(0.5, 2.0)).time(1.0, protocol=hurried)
    assert not timing.converged
    assert len(timing.samples) <= QUICK.rounds


def test_samples_that_were_interrupted_are_taken_again() -> None:
    machine = Machine()
    chance = random.Random(1)

    def run() -> None:
        machine.now += 0.001
        if chance.random() < 0.3:
            machine.now += 0.004
            machine.interruptions += 1

    (timing,) = interleave([run], QUICK, 0, machine.clock, machine.interrupted)
    assert timing.samples == pytest.approx([1.0] * len(timing.samples))


def test_a_sample_that_is_always_interrupted_is_its_shortest_try() -> None:
    machine = Machine()

    def run() -> None:
        machine.now += 0.001
        machine.interruptions += 1

    (timing,) = interleave([run], QUICK, 0, machine.clock, machine.interrupted)
    assert timing.ms == pytest.approx(1.0)


def test_warm_up_goes_on_until_two_windows_agree() -> None:
    machine = Machine(lambda now: 4.0 if now < 0.03 else 1.0)
    (timing,) = machine.time(1.0, protocol=QUICK.model_copy(update={"warmup_seconds": 0.02}))
    assert timing.samples == pytest.approx([1.0] * len(timing.samples))


def test_warm_up_ends_on_a_clock_that_stands_still() -> None:
    (timing,) = interleave([lambda: None], QUICK, 0, lambda: 0.0, lambda: 0)
    assert timing.ms == 0.0


def test_a_sample_repeats_the_call_until_it_is_long_enough() -> None:
    machine = Machine()
    machine.time(0.5, 40.0, protocol=QUICK.model_copy(update={"min_sample_ms": 5.0, "warmup_seconds": 0.0}))
    samples = 1 + QUICK.rounds * 2  # one in the warm-up
    assert machine.calls.count("0") == 2 + (samples - 1) * (1 + 10)
    assert machine.calls.count("1") == samples * (1 + 1)


@pytest.mark.parametrize(("ms", "repeats"), [(1.9, 1), (1.4, 1), (1.3, 2), (0.9, 2), (0.3, 7)])
def test_a_sample_is_no_longer_than_it_must_be(ms: float, repeats: int) -> None:
    machine = Machine()
    machine.time(ms, protocol=QUICK.model_copy(update={"min_sample_ms": 2.0, "warmup_seconds": 0.0}))
    samples = QUICK.rounds * 2
    assert machine.calls.count("0") == 2 + samples * (1 + repeats)


@pytest.mark.parametrize(("length", "known"), [(4.0, False), (1.0, True)])
def test_it_does_not_claim_to_know_what_a_neighbour_on_the_processor_always_interrupts(
    length: float, known: bool
) -> None:
    machine, slice_end = Machine(), [0.003]

    def run() -> None:
        machine.now += length / 1000
        while machine.now >= slice_end[0]:  # 3 ms for us, then 3 ms for the other
            machine.now += 0.003
            machine.interruptions += 1
            slice_end[0] += 0.006

    (timing,) = interleave([run], QUICK, 0, machine.clock, machine.interrupted)
    assert timing.converged is known
    assert (timing.ms == pytest.approx(length)) is known


def test_a_rare_interruption_of_a_long_call_does_not_count() -> None:
    machine = Machine()

    def run() -> None:
        machine.now += 0.05
        machine.interruptions += 1

    (timing,) = interleave([run], QUICK, 0, machine.clock, machine.interrupted)
    assert timing.converged


def test_a_sample_does_not_pay_for_what_another_call_left_in_the_caches() -> None:
    machine, last = Machine(), [-1]

    def cached(index: int) -> Callable[[], None]:
        def run() -> None:
            machine.now += 0.001 if last[0] == index else 0.0015
            last[0] = index

        return run

    timings = interleave([cached(0), cached(1)], QUICK, 0, machine.clock, machine.interrupted)
    assert [timing.ms for timing in timings] == pytest.approx([1.0, 1.0])


def test_a_call_with_slow_samples_is_not_made_faster_by_being_the_reference() -> None:
    machine, chance = Machine(), random.Random(0)

    def run() -> None:
        machine.now += 0.001 * (chance.uniform(1.0, 1.5) if chance.random() < 0.35 else 1.0)

    protocol = NOISY.model_copy(update={"rounds": 4000, "max_rounds": 4000})
    one, two = interleave([run, run], protocol, 0, machine.clock, machine.interrupted)
    assert statistics.fmean(two.samples) == pytest.approx(statistics.fmean(one.samples), rel=0.01)


def test_every_round_is_mirrored_and_its_order_is_drawn_from_the_seed() -> None:
    def orders(seed: int) -> list[str]:
        machine = Machine()
        machine.time(1.0, 1.0, 1.0, protocol=QUICK.model_copy(update={"warmup_seconds": 0.0}), seed=seed)
        assert machine.calls[6::2] == machine.calls[7::2]  # one untimed, one timed
        return machine.calls[6::2]

    rounds = [orders(0)[start : start + 6] for start in range(0, 60, 6)]
    assert all(order == order[::-1] and set(order) == {"0", "1", "2"} for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1
    assert orders(0) == orders(0) != orders(1)


@pytest.mark.parametrize("was_enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(was_enabled: bool) -> None:
    seen = []
    enabled_before = gc.isenabled()
    (gc.enable if was_enabled else gc.disable)()
    try:
        interleave([lambda: seen.append(gc.isenabled())], QUICK, 0, lambda: 0.0, lambda: 0)
        assert gc.isenabled() is was_enabled
    finally:
        (gc.enable if enabled_before else gc.disable)()
    assert not any(seen)


def noisy(seed: int) -> Machine:
    """Each call is a few percent off, one in twenty much slower, and the level wanders: a shared machine."""
    chance = random.Random(seed)
    level = [1.0]

    def slowness(_: float) -> float:
        level[0] *= 1 + chance.gauss(0, 0.002)
        return level[0] * (1 + abs(chance.gauss(0, 0.02)) + (0.5 if chance.random() < 0.05 else 0.0))

    return Machine(slowness)


def test_a_network_compared_with_itself_raises_few_false_alarms() -> None:
    alarms = 0
    for seed in range(200):
        one, two = noisy(seed).time(1.0, 1.0, seed=seed, protocol=NOISY)
        interval = ratio_interval(two, one)
        alarms += not interval.low <= 1.0 <= interval.high
    assert alarms <= 5  # 2 expected at the 99 % level


def test_a_known_slowdown_is_found() -> None:
    found = 0
    for seed in range(60):
        one, two = noisy(seed).time(1.0, 1.03, seed=seed, protocol=NOISY)
        found += ratio_interval(two, one).low > 1.0
    assert found >= 57
