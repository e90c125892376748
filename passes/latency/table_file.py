"""The lookup table as a JSON file: measured once on a device, used wherever the search runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ...transformer.contracts.store import Store
from ...transformer.contracts.target import Target
from ...transformer.errors import LoadError, StorageError, UsageError
from ...transformer.tools.files import write_atomically
from ...transformer.tools.reading import parse_model
from .provenance import differences
from .records import LatencyRecord, NetworkLatencyRecord

_MOST_BYTES = 256 * 1024 * 1024
_HINT = "give a table that hant wrote, or the result.json of a kit"


class TableFile(BaseModel):
    """Schema of the file; fields are added, never renamed, within one version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    target: str
    """Name of the target, for people."""
    provenance: dict[str, str]
    """Device, runtime, precision, batch size and target fingerprint that every row shares."""
    teacher: NetworkLatencyRecord
    """The whole teacher, which rows are relative to."""
    rows: dict[str, LatencyRecord]


def export_table(store: Store, target: Target, path: Path) -> int:
    """Write the run's rows for ``target`` to ``path``, atomically; return how many there are.

    Raises:
        UsageError: the run has no table for this target.
        StorageError: the file cannot be written.
    """
    rows = {key: row for key, row in store.all(LatencyRecord).items() if row.target == target.fingerprint}
    teacher = store.get(NetworkLatencyRecord, "teacher")
    if not rows or teacher is None or teacher.provenance.get("target") != target.fingerprint:
        raise UsageError(f"run {store.root} has no lookup table for target {target.name}; run: hant-opt profile RUN")
    table = TableFile(target=target.name, provenance=teacher.provenance, teacher=teacher, rows=rows)
    try:
        write_atomically(path, table.model_dump_json(indent=1))
    except OSError as error:
        raise StorageError(f"cannot write lookup table {path}: {error.strerror}; give another --export") from error
    return len(rows)


def read_table(content: bytes, target: Target, provenance: dict[str, str], path: Path) -> TableFile:
    """Return the table in the ``content`` of ``path`` if it is what the run expects.

    Raises:
        LoadError: it is not a lookup table.
        UsageError: it is of another device, runtime version, precision, batch size or options.
    """
    table = _parsed(content, path)
    changed = differences(table.provenance, provenance)
    for key, row in table.rows.items():
        changed = changed or differences(row.provenance, provenance)
        if row.target != target.fingerprint or not key.startswith(f"{target.fingerprint}/"):
            changed = changed or f"row {key} is of another target"
        if not key.startswith(f"{target.fingerprint}/{row.operation}/{row.input}->{row.output}"):
            changed = changed or f"row {key} says that it is of {row.operation}, {row.input}->{row.output}"
    if changed:
        raise UsageError(f"lookup table {path} does not fit target {target.name} here: {changed}; measure it again")
    return table


def add_table(store: Store, table: TableFile) -> int:
    """Add the rows that the run lacks, in one step; return how many were added."""
    known = store.all(LatencyRecord)
    new = {key: row for key, row in table.rows.items() if key not in known or known[key].between > row.between}
    with store.transaction():
        if store.get(NetworkLatencyRecord, "teacher") is None:
            store.put("teacher", table.teacher)
        for key, row in new.items():
            store.put(key, row)
    return len(new)


def read_file(path: Path) -> bytes:
    """Return the content of a file of latencies.

    Raises:
        LoadError: it cannot be read, or is larger than any is.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise LoadError(f"lookup table {path} is larger than {_MOST_BYTES} bytes; {_HINT}")
        return content
    except OSError as error:
        raise LoadError(f"cannot read lookup table {path}: {error.strerror}; {_HINT}") from error


def _parsed(content: bytes, path: Path) -> TableFile:
    return parse_model(content, TableFile, f"{path} is not a lookup table", _HINT)
