"""Records that each can be read and that do not fit each other: the first flaw is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.records import LatencyRecord, NetworkLatencyRecord
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.ranking.records import RankRecord, WinnerRecord
from hant.passes.scoring.records import ScoreRecord
from hant.passes.searching.records import SearchRecord
from hant.passes.selecting.records import SelectionRecord
from hant.transformer.contracts.timing import Timing
from hant.transformer.pipeline.flaws import flaw_of
from hant.transformer.runs.store import RunStore

TIMING = Timing(ms=1.5, low=1.25, high=2.0, trimmed_mean=1.5)
CHOICE = {"a": "identity", "b": "teacher"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A run of two blocks whose records fit each other."""
    with RunStore(tmp_path / "run") as opened:
        for block, operation in (("a", "identity"), ("a", "teacher"), ("b", "identity")):
            key, fits = f"{block}/{operation}", operation != "identity" or block == "a"
            row = f"t/{operation}/x->x" if fits else ""
            opened.put(key, OperationRecord(block=block, operation=operation, fits=fits, latency_key=row))
            if fits:
                opened.put(
                    row,
                    LatencyRecord(operation=operation, input="x", output="x", target="t", timing=TIMING, provenance={}),
                )
                opened.put(key, CandidateRecord(block=block, operation=operation, state="ready"))
                opened.put(key, score(block, operation))
        opened.put("teacher", NetworkLatencyRecord(selection={}, timing=TIMING, teacher=TIMING, provenance={}))
        opened.put("000", selection())
        opened.put("000", RankRecord(index=0, loss=float("inf"), accuracy=10.0, samples=5))
        opened.put("winner", winner())
        opened.put("0.45/01", searched())
        yield opened


def score(block: str, operation: str, samples: int = 5) -> ScoreRecord:
    return ScoreRecord(block=block, operation=operation, delta=-0.5, accuracy=0.0, samples=samples)


def selection(**changes: Any) -> SelectionRecord:
    values = {"index": 0, "choice": CHOICE, "objective": -0.5, "bound": -0.5, "cost": {"ms": 0.0}, "predicted_ms": 1.0}
    return SelectionRecord.model_validate(values | changes)


def winner(**changes: Any) -> WinnerRecord:
    values = {"index": 0, "choice": CHOICE, "objective": 0.0, "bound": 0.0, "predicted_ms": 1.0, "measured_ms": 1.0}
    return WinnerRecord.model_validate(values | {"teacher_ms": 2.0} | changes)


def searched(**changes: Any) -> SearchRecord:
    """Return a round in which no network was run: there was nothing to propose."""
    values = {"budget": "0.45", "round": 1, "choice": CHOICE, "loss": 0.5, "before": 0.5, "radius": 0, "networks": 0}
    return SearchRecord.model_validate(values | {"recipe": "x", "seconds": 0.1} | changes)


def test_what_hant_writes_has_no_flaw(store: RunStore) -> None:
    assert flaw_of(store) == ""


FLAWS: list[tuple[Callable[[RunStore], Any], str]] = [
    (lambda s: s.put("winner", winner(choice={})), "record winner winner chooses for 0 blocks, and the run has 2"),
    (
        lambda s: s.put("winner", winner(choice={"a": "zz", "b": "teacher"})),
        "record winner winner chooses zz for a, which does not fit there",
    ),
    (
        lambda s: s.put("000", selection(choice={"a": "identity", "b": "identity"})),
        "record selection 000 chooses identity for b, which does not fit there",
    ),
    (
        lambda s: s.put("0.45/01", searched(choice={"a": "identity"})),
        "record search 0.45/01 chooses for 1 blocks, and the run has 2",
    ),
    (lambda s: s.put("winner", winner(index=7)), "record winner winner is of a selection that is not there"),
    (lambda s: s.delete(SelectionRecord), "record rank 000 is of a selection that is not there"),
    (lambda s: s.delete(LatencyRecord, "t/identity/x->x"), "there is no latency t/identity/x->x of a/identity"),
    (lambda s: s.delete(ScoreRecord, "a/identity"), "there is no score of a/identity"),
    (lambda s: s.delete(NetworkLatencyRecord), "there is no latency of the whole teacher"),
    (lambda s: s.put("a/x", score("a", "identity")), "record score a/x says that it is of a/identity"),
    (lambda s: s.put("a/identity", score("a", "identity", 0)), "record score a/identity: samples is 0"),
    (lambda s: s.put("a/identity", score("a", "identity", -3)), "record score a/identity: samples is -3"),
    (lambda s: s.put("000", selection(cost={"ms": 1e300})), "record selection 000: cost.ms is 1e+300"),
    (lambda s: s.put("winner", winner(teacher_ms=0.0)), "record winner winner: teacher_ms is 0"),
]


@pytest.mark.parametrize(("harm", "flaw"), FLAWS)
def test_the_first_flaw_is_named(store: RunStore, harm: Callable[[RunStore], Any], flaw: str) -> None:
    harm(store)
    assert flaw_of(store) == flaw


def test_a_record_that_cannot_be_read_is_a_flaw(store: RunStore) -> None:
    store._db.execute("UPDATE record SET payload = '{}' WHERE kind = 'rank'")
    assert flaw_of(store).startswith("record rank 000 of the run is not readable by this version of hant: index: ")
