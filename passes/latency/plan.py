"""What the lookup table still lacks, ordered by the site where it is measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

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
    blocks: int
    """How many blocks of the network each row stands for."""


@dataclass(frozen=True, eq=False)
class Plan:
    """All that is missing."""

    sites: tuple[SitePlan, ...]

    @property
    def missing(self) -> int:
        """How many rows are to be measured."""
        return sum(len(site.rows) + (site.reference is not None) for site in self.sites)


def plan(context: Context, *, estimates_count: bool = False) -> Plan:
    """Return every distinct row that the listed operations need and the table does not have yet.

    A row that is only estimated is lacking, unless ``estimates_count``.
    """
    graph, target = context.teacher, context.target
    places = sites(graph)
    known = context.store.all(LatencyRecord)
    have = {key for key, record in known.items() if estimates_count or not record.timing.estimated}
    specs = {"teacher": find_operation("teacher")} | {spec.name: spec for spec in context.pool}
    listed = context.store.all(OperationRecord)
    lacking: dict[int, dict[str, Row]] = {id(site): {} for site in places.values()}
    blocks = Counter(id(of_block(places, block)) for block in graph.replaceable)
    for block in graph.replaceable:
        rows = lacking[id(of_block(places, block))]
        for row in _listed(block, listed, specs, target):
            rows.setdefault(row.key, row)
    return Plan(tuple(_site_plan(site, lacking[id(site)], have, target, blocks[id(site)]) for site in places.values()))


def _listed(
    block: Block, listed: dict[str, OperationRecord], specs: dict[str, OpSpec], target: Target
) -> Iterable[Row]:
    """Yield the rows of a block's operations: the teacher's, which others are compared with, in any case."""
    for name, spec in specs.items():
        record = listed.get(f"{block.name}/{name}")
        if name == "teacher" or (record is not None and record.fits):
            yield Row(latency_key(block, spec, target), block, spec)


def _site_plan(site: Site, rows: dict[str, Row], have: set[str], target: Target, blocks: int) -> SitePlan:
    reference = latency_key(site.block, find_operation("teacher"), target)
    missing = [row for key, row in rows.items() if key not in have]
    return SitePlan(
        site=site,
        reference_key=reference,
        reference=next((row for row in missing if row.key == reference), None),
        rows=tuple(row for row in missing if row.key != reference),
        blocks=blocks,
    )
