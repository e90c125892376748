"""Every reader of what may come from a stranger, on damaged and forged inputs: a typed error of one line, or an answer.

The quick sample runs with every test run; ``-m slow`` reads 100,000 inputs for each reader.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hant.backends.targets.load import load_target
from hant.op_library.pools import pool
from hant.passes.candidates.records import OperationRecord
from hant.passes.latency.kits.manifest import GroupPlan, Input, KitResult, Manifest, Measured, Network, RowPlan
from hant.passes.latency.kits.measure import digest
from hant.passes.latency.kits.take import _read as read_result
from hant.passes.latency.kits.take import is_result
from hant.passes.latency.records import LatencyRecord, NetworkLatencyRecord
from hant.passes.latency.table_file import _parsed as read_table
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.ranking.records import EvaluationRecord, WinnerRecord
from hant.passes.selecting.records import SelectionRecord
from hant.transformer.contracts.record import Record
from hant.transformer.contracts.timing import Timing
from hant.transformer.errors import HantError
from hant.transformer.pipeline.config import dump, make, read
from hant.transformer.pipeline.flaws import flaw_of
from hant.transformer.runs.records import PassRecord
from hant.transformer.runs.store import RunStore

QUICK, MANY = 150, 100_000
TIMING = Timing(ms=1.5, low=1.25, high=2.0, trimmed_mean=1.5, samples=(1.25, 1.5, 2.0))
CONFIG = """
model = "a.pt"
arch = "net.py:net"
target = "cpu-ort"
budget = "0.45"
limits = ["params=50%", "macs=3M"]
data = "digits"
input_shape = "3x8x8"
seed = 3
max_overlap = 0.7
batch_size = 4
exclude = ["head*"]
[arch_kwargs]
width = 2
names = ["x", 1.5]
[passes.finetune]
epochs = 5
learning_rate = 0.05
"""
TARGET = """
name = "mine"
backend = "onnxruntime"
precision = "fp32"
batch_size = 2
description = "my board"
[options]
threads = 2
[facts]
gflops = 12.5
[protocol]
warmup_seconds = 0.02
rounds = 5
max_rounds = 6
confidence = 0.99
trim = 0.1
[tolerances]
max_abs = 1e-4
"""
POOL = 'description = "mine"\noperations = ["zero-shot", "efnv2_*_se1.00", "!efnv2_5x5_*", "cb_res_3x3", "dbb_1x1"]\n'
NUMBERS = ("-1", "0", "1e300", "-1e300", "nan", "inf", "Infinity", "9" * 5000, "1e-320", "true", "null", '"x"', "[]")
TEXTS = ("", "\x1b[2J", "../../x", "[/b]", "x" * 5000, "\\u0000", "\\ud800", "é\u202e", "*" * 60, "0" * 40)
INSERTS = ("[" * 20_000, "[" * 300 + "]" * 300, '{"a":' * 5000, "\x00", "\ufeff", '"', "\n", "}", ",", "a.b.c.d = 1\n")


def mutated(text: str, chance: random.Random) -> bytes:
    """Return ``text`` with one to three faults."""
    for _ in range(chance.randint(1, 3)):
        kind = chance.randrange(5)
        if kind == 0:
            text = _replaced(text, r"-?\d+(\.\d+)?(e-?\d+)?", chance.choice(NUMBERS), chance)
        elif kind == 1:
            text = _replaced(text, r'(?<=")[^"\n]*(?=")', chance.choice(TEXTS), chance)
        elif kind == 2:
            text = _replaced(
                text, r'("[^"]*"|\b\w+)\s*[:=]\s*[^,}\n]*,?\n?', chance.choice(("", '"zz": 1,', "zz = 1\n")), chance
            )
        elif kind == 3:
            place = chance.randrange(len(text) + 1)
            text = text[:place] + chance.choice(INSERTS) + text[place:]
        else:
            place = chance.randrange(len(text) + 1)
            text = text[:place] + text[place + chance.randint(1, 30) :]
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    if content and chance.random() < 0.2:
        content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content)


def _replaced(text: str, pattern: str, by: str, chance: random.Random) -> str:
    found = list(re.finditer(pattern, text))
    if not found:
        return text
    match = chance.choice(found)
    return text[: match.start()] + by + text[match.end() :]


def records() -> dict[str, Record]:
    choice = {"a": "identity", "b": "teacher"}
    return {
        "select": PassRecord(fingerprint="f", options={"k": 3, "names": ["x"]}, seconds=1.5, notes=("done",)),
        "a/identity": OperationRecord(block="a", operation="identity", fits=True, latency_key="t/identity/x->x"),
        "b/teacher": OperationRecord(block="b", operation="teacher", fits=True, latency_key="t/teacher:1/x->x"),
        "t/identity/x->x": LatencyRecord(
            operation="identity", input="x", output="x", target="t", timing=TIMING, provenance={"device": "d"}
        ),
        "teacher": NetworkLatencyRecord(selection={}, timing=TIMING, teacher=TIMING, provenance={"target": "t"}),
        "c/identity": CandidateRecord(block="c", operation="identity", state="ready", nmse=0.25, steps=3),
        "000": SelectionRecord(
            index=0, choice=choice, objective=0.5, bound=float("-inf"), cost={"ms": 1.0}, predicted_ms=1.0
        ),
        "r/1": EvaluationRecord(choice=choice, samples=10, complete=True, sums={"loss": 3.5}, squares={"loss": 9.5}),
        "winner": WinnerRecord(
            index=0, choice=choice, objective=0.5, bound=0.5, predicted_ms=1.0, measured_ms=1.0, teacher_ms=2.0
        ),
    }


def result() -> str:
    network = Network(file="networks/0.onnx", inputs=(Input(shape=(1, 3, 8, 8), dtype="float32"),))
    row = RowPlan(key="t/identity/x->x", operation="identity", input="x", output="x", weights=((1, 1.0), (2, -1.0)))
    kit = Manifest(
        hant="0.1", target=load_target("cpu-ort"), teacher="0", inputs=("3x8x8",), pool=("teacher", "identity"),
        needs={"onnxruntime": "onnxruntime"}, settings={"threads": 1}, asked={"runtime": "x"},
        groups=(GroupPlan(name="0000", what="block a", max_rounds=60, networks=(network,) * 3, rows=(row,)),),
    )  # fmt: skip
    measured = Measured(samples=((1.5, 2.5),) * 3, converged=(True,) * 3, date="2026", seconds=1.5)
    plain = kit.model_dump(mode="json")
    return KitResult(digest=digest(plain), kit=kit, device={"device": "d"}, groups={"0000": measured}).model_dump_json()


def table() -> str:
    row, whole = records()["t/identity/x->x"], records()["teacher"]
    plain = {"target": "t", "provenance": {"device": "d"}, "teacher": whole.model_dump(mode="json")}
    return json.dumps(plain | {"rows": {"t/identity/x->x": row.model_dump(mode="json")}})


def read_kit_result(content: bytes, path: Path, chance: random.Random) -> None:
    if chance.random() < 0.5:  # a forger sees to it that the digest fits
        try:
            plain = json.loads(content)
            plain["digest"] = digest(plain["kit"])
            content = json.dumps(plain).encode()
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
    if is_result(content):
        read_result(content, path)
    else:
        read_table(content, path)


Reader = Callable[[bytes, Path, random.Random], Any]


def from_file(read_path: Callable[[Path], Any]) -> Reader:
    def reader(content: bytes, path: Path, _: random.Random) -> Any:
        path.write_bytes(content)
        return read_path(path)

    return reader


def configuration(path: Path) -> None:
    config = make(read(path), str(path))
    assert dump(make(read_text(dump(config), path))) == dump(config)


def read_text(text: str, path: Path) -> dict[str, Any]:
    path.write_text(text, encoding="utf-8")
    return read(path)


READERS: dict[str, tuple[str, str, Reader]] = {
    "configuration": (CONFIG, "c.toml", from_file(configuration)),
    "target": (TARGET, "t.toml", from_file(load_target)),
    "pool": (POOL, "p.toml", from_file(pool)),
    "kit result": (result(), "result.json", read_kit_result),
    "table": (table(), "table.json", lambda content, path, _: read_table(content, path)),
}


def outcomes(what: str, folder: Path, count: int) -> Iterator[bool]:
    """Read so many mutated inputs; yield whether each was taken."""
    text, name, reader = READERS[what]
    for seed in range(count):
        chance = random.Random(f"{what} {seed}")
        try:
            reader(mutated(text, chance), folder / name, chance)
        except HantError as error:
            told = str(error)
        else:
            yield True
            continue
        assert len(told.splitlines()) == 1, (seed, told[:500])
        yield False


def record_outcomes(store: RunStore, count: int) -> Iterator[bool]:
    """Read so many mutated records; yield whether each was taken."""
    valid = records()
    texts = {key: record.model_dump_json() for key, record in valid.items()}
    with store.transaction():
        for key, record in valid.items():
            store.put(key, record)
    for seed in range(count):
        chance = random.Random(f"record {seed}")
        key = chance.choice(list(valid))
        kind, payload = type(valid[key]), mutated(texts[key], chance).decode("utf-8", "replace")
        with store.transaction():
            store._db.execute("UPDATE record SET payload=? WHERE kind=? AND key=?", (payload, kind.kind, key))
            try:
                read_back = store.get(kind, key)
            except HantError:
                yield False
            else:
                assert read_back is not None
                assert (
                    kind.model_validate_json(read_back.model_dump_json()).model_dump_json()
                    == read_back.model_dump_json()
                )
                yield True
            if seed % 50 == 0:
                assert isinstance(flaw_of(store), str)
            store.put(key, valid[key])


@pytest.mark.parametrize("what", READERS)
def test_what_is_written_is_read(what: str, tmp_path: Path) -> None:
    text, name, reader = READERS[what]
    chance = random.Random(0)
    chance.random = lambda: 1.0  # type: ignore[method-assign]
    if what == "kit result":
        read_result(text.encode(), tmp_path / name)
    else:
        reader(text.encode(), tmp_path / name, chance)


@pytest.mark.parametrize("what", READERS)
def test_mutated_inputs_are_told_or_taken(what: str, tmp_path: Path) -> None:
    assert False in set(outcomes(what, tmp_path, QUICK))


def test_mutated_records_are_told_or_taken(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        assert set(record_outcomes(store, QUICK)) == {True, False}


@pytest.mark.slow
@pytest.mark.parametrize("what", READERS)
def test_a_hundred_thousand_mutated_inputs(what: str, tmp_path: Path) -> None:
    assert sum(1 for _ in outcomes(what, tmp_path, MANY)) == MANY


@pytest.mark.slow
def test_a_hundred_thousand_mutated_records(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        assert sum(1 for _ in record_outcomes(store, MANY)) == MANY
