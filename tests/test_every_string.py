"""Every string of what people hand to each other, replaced by an attack: a typed error of one line or an answer.

Of networks that is tests/files/test_strings.py, of whole runs tests/cli/test_strangers.py.
"""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hant.tests.files.test_strings import payloads, replaced, seen, strings
from hant.tests.test_mutations import READERS, records
from hant.transformer.contracts.record import Record
from hant.transformer.errors import HantError
from hant.transformer.runs.store import RunStore


def attacked(folder: Path, data: Any, count: int, read: Callable[[Any], object]) -> int:
    """Replace each string of ``data`` by ``count`` attacks in turn; return how many were refused."""
    texts, chance, refused = [*payloads(folder), "a\0b", "~nobody-here/x", "[" * 20_000], random.Random(0), 0
    for number in range(strings(data)):
        for text in chance.sample(texts, min(count, len(texts))):
            told = ""
            try:
                read(replaced(data, number, text))
            except HantError as error:
                told = str(error)
            assert len(told.splitlines()) <= 1, (number, text)
            refused += bool(told)
    assert not (folder / "canary").exists()
    assert seen == []
    return refused


FEW_OR_ALL = pytest.mark.parametrize("count", [2, pytest.param(100, marks=pytest.mark.slow)])


@FEW_OR_ALL
@pytest.mark.parametrize("what", READERS)
def test_every_string_of_a_file(what: str, count: int, tmp_path: Path) -> None:
    text, name, reader = READERS[what]
    toml = name.endswith(".toml")
    data = tomllib.loads(text) if toml else json.loads(text)
    chance = random.Random(0)

    def read(changed: Any) -> None:
        reader((tomli_w.dumps(changed) if toml else json.dumps(changed)).encode(), tmp_path / name, chance)

    seen.clear()
    assert attacked(tmp_path, data, count, read) > strings(data) / 3


def read_record(store: RunStore, key: str, kind: type[Record], changed: Any) -> None:
    """Read a record with other content; its transaction is rolled back where that is refused."""
    with store.transaction():
        store._db.execute("UPDATE record SET payload=? WHERE kind=? AND key=?", (json.dumps(changed), kind.kind, key))
        store.get(kind, key)


@FEW_OR_ALL
def test_every_string_of_a_record(count: int, tmp_path: Path) -> None:
    seen.clear()
    refused = 0
    with RunStore(tmp_path / "run") as store:
        for key, record in records().items():
            store.put(key, record)
            read = partial(read_record, store, key, type(record))
            refused += attacked(tmp_path, record.model_dump(mode="json"), count, read)
            store.put(key, record)
    assert refused > 20
