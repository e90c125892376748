"""Bring latencies in that were measured before or elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Pass, PassResult
from .estimates import forget_estimates
from .kits.take import is_result, take_result
from .provenance import expected_provenance
from .table_file import add_table, read_file, read_table


@dataclass(frozen=True)
class ImportPass(Pass):
    """Add the latencies of a file that the run lacks: of a lookup table, or of the result of a kit.

    A run without latencies takes those of any device and is about that device from then on.
    """

    name: ClassVar[str] = "import"
    requires: ClassVar[tuple[str, ...]] = ("operation",)
    durable: ClassVar[bool] = False

    file: str = "result.json"

    def run(self, context: Context) -> PassResult:
        """Add them in one step.

        Raises:
            LoadError: the file cannot be read, or is neither.
            UsageError: it is of another device, target, teacher or pool than the run.
        """
        path = Path(self.file)
        content = read_file(path)
        if is_result(content):
            return PassResult(notes=(take_result(context, content, path),))
        table = read_table(content, context.target, expected_provenance(context), path)
        forget_estimates(context)
        count = add_table(context.store, table)
        return PassResult(notes=(f"{count} rows of {path} added",))
