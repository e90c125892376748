"""A table goes from one run to another through a file, or is refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hant.backends.measuring.statistics import summarise
from hant.passes.latency.records import LatencyRecord, NetworkLatencyRecord
from hant.passes.latency.table_file import add_table, export_table, read_file, read_table
from hant.transformer.contracts.target import Target
from hant.transformer.errors import LoadError, UsageError
from hant.transformer.runs.store import RunStore

TARGET = Target(name="here", backend="onnxruntime")
PROVENANCE = {"device": "abacus", "runtime": "beads 1.0", "batch_size": "1", "target": TARGET.fingerprint}


def import_table(store: RunStore, target: Target, provenance: dict[str, str], path: Path) -> int:
    return add_table(store, read_table(read_file(path), target, provenance, path))


@pytest.fixture
def full(tmp_path: Path) -> Iterator[RunStore]:
    with RunStore(tmp_path / "full") as store:
        timing = summarise([1.0, 2.0, 3.0], True)
        whole = NetworkLatencyRecord(selection={}, timing=timing, teacher=timing, provenance=PROVENANCE)
        store.put("teacher", whole)
        for name in ("identity", "cb_res_3x3"):
            row = LatencyRecord(
                operation=name,
                input="a",
                output="b",
                target=TARGET.fingerprint,
                timing=timing,
                provenance=PROVENANCE,
            )
            store.put(f"{TARGET.fingerprint}/{name}/a->b", row)
        yield store


@pytest.fixture
def file(full: RunStore, tmp_path: Path) -> Path:
    assert export_table(full, TARGET, tmp_path / "table.json") == 2
    return tmp_path / "table.json"


def test_a_table_survives_the_way_to_the_bit(full: RunStore, file: Path, tmp_path: Path) -> None:
    with RunStore(tmp_path / "other") as other:
        assert import_table(other, TARGET, PROVENANCE, file) == 2
        assert other.all(LatencyRecord) == full.all(LatencyRecord)
        assert other.get(NetworkLatencyRecord, "teacher") == full.get(NetworkLatencyRecord, "teacher")
        assert import_table(other, TARGET, PROVENANCE, file) == 0


def test_rows_that_the_run_measured_are_kept(full: RunStore, file: Path) -> None:
    key = f"{TARGET.fingerprint}/identity/a->b"
    own = full.all(LatencyRecord)[key].model_copy(update={"timing": summarise([9.0], True)})
    full.put(key, own)
    full.delete(LatencyRecord, f"{TARGET.fingerprint}/cb_res_3x3/a->b")
    assert import_table(full, TARGET, PROVENANCE, file) == 1
    assert full.get(LatencyRecord, key) == own


@pytest.mark.parametrize(("name", "value"), [("device", "slide rule"), ("runtime", "beads 2.0"), ("batch_size", "8")])
def test_another_device_is_refused_with_the_difference(file: Path, tmp_path: Path, name: str, value: str) -> None:
    with RunStore(tmp_path / "other") as other:
        with pytest.raises(UsageError, match=f"does not fit target here here: {name} '.*' is not '{value}'; measure"):
            import_table(other, TARGET, {**PROVENANCE, name: value}, file)
        assert not other.count("latency")


def test_rows_of_another_target_are_refused(file: Path, tmp_path: Path) -> None:
    table = json.loads(file.read_text())
    table["rows"] = {f"x{key}": row for key, row in table["rows"].items()}
    file.write_text(json.dumps(table))
    with RunStore(tmp_path / "other") as other, pytest.raises(UsageError, match="is of another target"):
        import_table(other, TARGET, PROVENANCE, file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot read lookup table .*: No such file or directory; give a table that hant wrote"),
        ("{", r"is not a lookup table: the file: Invalid JSON"),
        ("[]", r"is not a lookup table: the file: "),
        ('{"version": 2}', r"is not a lookup table: version: Input should be 1"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "table.json"
    if content is not None:
        path.write_text(content)
    with RunStore(tmp_path / "run") as store, pytest.raises(LoadError, match=message) as caught:
        import_table(store, TARGET, PROVENANCE, path)
    assert "\n" not in str(caught.value)


def test_a_run_without_a_table_has_nothing_to_export(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store, pytest.raises(UsageError, match="no lookup table for target here; run:"):
        export_table(store, TARGET, tmp_path / "table.json")
    assert not (tmp_path / "table.json").exists()
