"""What a kit of this run would measure: a result that says anything else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ....op_library.pools import operation
from ....transformer.contracts.context import Context
from ....transformer.errors import LoadError
from ...candidates.candidates import latency_key
from ...candidates.records import OperationRecord
from ..plan import Row, SitePlan, plan
from .manifest import GroupPlan, Measured, RowPlan

_HINT = "give the result of a kit that this run wrote"


class Expected:
    """The rows and networks of a run, to compare those of a file with."""

    def __init__(self, context: Context, path: Path) -> None:
        """Take the run's plan; ``path`` is for messages."""
        self._path = path
        self._protocol_rounds = context.target.protocol.max_rounds
        self._lacking = {row.key: (site, row) for site in plan(context).sites for row in _rows(site)}
        listed = context.store.all(OperationRecord)
        self._fitting = {name for name, record in listed.items() if record.fits}
        self._known = {record.latency_key for record in listed.values()}
        self._blocks = {block.name for block in context.teacher.replaceable}
        self._known |= {
            latency_key(block, operation("teacher"), context.target) for block in context.teacher.replaceable
        }

    def check(self, group: GroupPlan, measured: Measured) -> None:
        """Refuse a group whose rows, networks or numbers of samples are not the run's own.

        Raises:
            LoadError: names the row or network.
        """
        most = max(self._protocol_rounds, group.max_rounds)
        if max((len(samples) for samples in measured.samples), default=0) > most:
            raise self._error(f"group {group.name} has more samples than the {most} rounds of its networks")
        for index in measured.errors:
            if index not in range(1, len(group.networks)):
                raise self._error(f"group {group.name} has an error of network {index}, of {len(group.networks)}")
        for row in group.rows:
            self._check_row(row, group)
        for choice in group.selections:
            self._check_choice(choice, group)

    def _check_row(self, row: RowPlan, group: GroupPlan) -> None:
        if row.key not in self._lacking:
            if row.key in self._known:  # the run has it, or has found that it does not fit
                return
            raise self._error(f"row {row.key} is none of this run's")
        site, own = self._lacking[row.key]
        is_reference = own is site.reference
        plus = "" if is_reference else site.reference_key
        if own.operation == "identity" and site.site.block.identity_allowed:
            plus = ""
        told = (row.operation, row.input, row.output, row.plus, sorted(weight for _, weight in row.weights))
        asked = (own.operation, str(own.block.input), str(own.block.output), plus, sorted(_weights(site, own)))
        if told != asked:
            raise self._error(f"row {row.key} follows from other timings than it does in this run")
        indices = [index for index, _ in row.weights]
        if len(set(indices)) != len(indices) or not all(1 <= index < len(group.networks) for index in indices):
            raise self._error(f"row {row.key} names networks that group {group.name} does not have")

    def _check_choice(self, choice: Mapping[str, str], group: GroupPlan) -> None:
        pairs = [f"{block}/{name}" for block, name in choice.items() if name != "teacher"]
        strange = [pair for pair in pairs if pair not in self._fitting]
        if strange or not set(choice) <= self._blocks:
            raise self._error(f"a network of group {group.name} has {(strange or sorted(choice))[0]}, not of this run")

    def _error(self, what: str) -> LoadError:
        return LoadError(f"{self._path} does not fit this run: {what}; {_HINT}")


def _rows(site: SitePlan) -> tuple[Row, ...]:
    return site.rows if site.reference is None else (site.reference, *site.rows)


def _weights(plan: SitePlan, row: Row) -> list[float]:
    """Return the weights of the timings that a row follows from, as ``profile_row`` has them."""
    block = plan.site.block
    if row is plan.reference:
        weights = [1.0, -1.0] if block.identity_allowed else [1.0, -0.5, -0.5]
    else:
        weights = [] if block.identity_allowed and row.operation == "identity" else [1.0, -1.0]
    return [weight * block.calls for weight in weights]
