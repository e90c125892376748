"""What the lookup table still lacks, ordered by the site where it is measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...op_library.elastic import kind_of, width_of
from ...op_library.op_spec import OpSpec
from ...op_library.pools import operation as find_operation
from ...transformer.contracts.context import Context
from ...transformer.contracts.target import Target
from ...transformer.contracts.timing import Timing
from ...transformer.ir.block import Block
from ..candidates.candidates import latency_key, row_name
from ..candidates.records import OperationRecord
from .records import LatencyRecord
from .sites import Site, of_block, sites
from .widths import missing


@dataclass(frozen=True, eq=False)
class Row:
    """A row of the table that is to be measured, with a block whose candidate it is."""

    key: str
    block: Block
    spec: OpSpec

    @property
    def operation(self) -> str:
        """Name of the operation as in the table."""
        return row_name(self.block, self.spec)

    def record(self, target: Target, timing: Timing, provenance: dict[str, str]) -> LatencyRecord:
        """Return the row with its time."""
        return LatencyRecord(
            operation=self.operation,
            input=str(self.block.input),
            output=str(self.block.output),
            target=target.fingerprint,
            timing=timing,
            provenance=provenance,
        )


@dataclass(frozen=True, eq=False)
class SitePlan:
    """The rows that one site lacks."""

    site: Site
    reference_key: str
    """Key of the row of the site's own block, which the others are compared with."""
    reference: Row | None
    """That row, where the table lacks it."""
    rows: tuple[Row, ...]
    listed: tuple[Row, ...]
    """All rows of the site's operations, known or not."""
    blocks: int
    """How many blocks of the network each row stands for."""


@dataclass(frozen=True, eq=False)
class Plan:
    """All that is missing."""

    sites: tuple[SitePlan, ...]

    @property
    def missing(self) -> int:
        """How many rows are to be measured."""
        return len(self.keys)

    @property
    def keys(self) -> set[str]:
        """Of the rows that are to be measured."""
        return {row.key for site in self.sites for row in (site.reference, *site.rows) if row is not None}


def plan(context: Context, *, estimates_count: bool = False, bisect: bool = False) -> Plan:
    """Return every distinct row that the listed operations need and the table does not have yet.

    A row that is only estimated is lacking, unless ``estimates_count``. With ``bisect`` only those rows are needed of
    operations that differ in their width that have to be timed next (``widths.py``).
    """
    graph, target = context.teacher, context.target
    places = sites(graph)
    known = context.store.all(LatencyRecord)
    counting = {key: row for key, row in known.items() if estimates_count or not row.timing.estimated}
    have = {key: row.timing.ms for key, row in counting.items() if not row.between}
    specs = {"teacher": find_operation("teacher")} | {spec.name: spec for spec in context.pool}
    listed = context.store.all(OperationRecord)
    lacking: dict[int, dict[str, Row]] = {id(site): {} for site in places.values()}
    blocks = Counter(id(of_block(places, block)) for block in graph.replaceable)
    for block in graph.replaceable:
        rows = lacking[id(of_block(places, block))]
        for row in _listed(block, listed, specs, target):
            rows.setdefault(row.key, row)
    return Plan(
        tuple(_site_plan(site, lacking[id(site)], have, target, blocks[id(site)], bisect) for site in places.values())
    )


def _listed(
    block: Block, listed: dict[str, OperationRecord], specs: dict[str, OpSpec], target: Target
) -> Iterable[Row]:
    """Yield the rows of a block's operations: the teacher's, which others are compared with, in any case."""
    for name, spec in specs.items():
        record = listed.get(f"{block.name}/{name}")
        if name == "teacher" or (record is not None and record.fits):
            yield Row(latency_key(block, spec, target), block, spec)


def _site_plan(
    site: Site, rows: dict[str, Row], have: dict[str, float], target: Target, blocks: int, bisect: bool
) -> SitePlan:
    reference = latency_key(site.block, find_operation("teacher"), target)
    missing = needed(rows.values(), have) if bisect else [row for key, row in rows.items() if key not in have]
    return SitePlan(
        site=site,
        reference_key=reference,
        reference=next((row for row in missing if row.key == reference), None),
        rows=tuple(row for row in missing if row.key != reference),
        listed=tuple(rows.values()),
        blocks=blocks,
    )


def ladders(rows: Iterable[Row]) -> list[list[Row]]:
    """Return the rows of one site by the kind of their operation, the narrowest first; most kinds have one row."""
    kinds: dict[object, list[Row]] = {}
    for row in rows:
        kind = kind_of(row.spec)
        kinds.setdefault(row.key if kind is None else (kind, row.spec.derived and row.block.signature), []).append(row)
    return [sorted(kind, key=lambda row: width_of(row.spec)) for kind in kinds.values()]


def needed(rows: Iterable[Row], ms: Mapping[str, float]) -> list[Row]:
    """Return which rows of one site have to be timed next, where ``ms`` are those that were, by key."""
    found = []
    for ladder in ladders(rows):
        known = [ms.get(row.key) for row in ladder]
        found += [ladder[place] for place in missing([width_of(row.spec) for row in ladder], known)]
    return found
