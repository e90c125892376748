"""Real Ray on this machine: workers are processes, and some of them are killed."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.pretraining.records import CandidateRecord
from hant.transformer.contracts.context import Context
from hant.transformer.runs.store import RunStore

pytest.importorskip("ray")

MakeContext = Callable[..., Context]
POOL = "teacher,identity,cb_res_1x1,cb_res_3x3,cb_stack_3x3_ex0.5"
LOCAL = PretrainPass(epochs=2, batch_size=64)
RAY = replace(LOCAL, executor="ray", workers=2)


def weights(store: RunStore) -> dict[str, torch.Tensor]:
    return {
        f"{key}:{name}": tensor
        for key, record in store.all(CandidateRecord).items()
        if record.file
        for name, tensor in store.load_tensors(record.file).items()
    }


def trained(root: Path, make_context: MakeContext, stage: PretrainPass) -> dict[str, torch.Tensor]:
    with RunStore(root) as store:
        stage.run(make_context(store, POOL))
        assert {record.state for record in store.all(CandidateRecord).values()} == {"ready"}
        return weights(store)


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert first
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@contextmanager
def killing(most: int) -> Iterator[list[int]]:
    """Kill a worker of this process's Ray at random moments, ``most`` times, while it trains."""
    killed: list[int] = []
    over = threading.Event()

    def hunt() -> None:
        chance = random.Random(0)
        while not over.wait(chance.uniform(0.05, 0.4)) and len(killed) < most:
            for process in psutil.Process().children(recursive=True):
                try:
                    if "ray::_run" in " ".join(process.cmdline()):
                        process.kill()
                        killed.append(process.pid)
                        break
                except psutil.NoSuchProcess:
                    continue

    thread = threading.Thread(target=hunt)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_ray_trains_the_same_weights_as_the_local_executor_whoever_is_killed(
    tmp_path: Path, make_context: MakeContext
) -> None:
    expected = trained(tmp_path / "local", make_context, LOCAL)
    assert_equal(trained(tmp_path / "ray", make_context, RAY), expected)
    with killing(3) as killed:
        found = trained(tmp_path / "killed", make_context, RAY)
    assert killed
    assert_equal(found, expected)


@pytest.mark.slow
def test_a_run_goes_on_with_another_executor(tmp_path: Path, make_context: MakeContext) -> None:
    expected = trained(tmp_path / "local", make_context, LOCAL)
    with RunStore(tmp_path / "both") as store:
        replace(RAY, blocks=("one",)).run(make_context(store, POOL))
        first = store.all(CandidateRecord)
        LOCAL.run(make_context(store, POOL))
        assert first.items() <= store.all(CandidateRecord).items()
        assert_equal(weights(store), expected)


def test_an_unknown_executor_is_named(tmp_path: Path, make_context: MakeContext) -> None:
    with (
        RunStore(tmp_path) as store,
        pytest.raises(Exception, match=re.escape("unknown executor 'rya'; did you mean 'ray'?")),
    ):
        replace(LOCAL, executor="rya").run(make_context(store, POOL))
