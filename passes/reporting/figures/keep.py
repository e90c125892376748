"""Figures as files of the run."""

from __future__ import annotations

import hashlib

from ....transformer.contracts.store import Store
from ..records import FigureRecord


def keep(store: Store, name: str, title: str, svg: str) -> FigureRecord:
    """Write ``figures/NAME.svg`` and list it in the run; ``report.json`` names it with the other files."""
    file = f"figures/{name}.svg"
    store.write(file, svg)
    record = FigureRecord(title=title, file=file, sha256=hashlib.sha256(svg.encode()).hexdigest())
    store.put(name, record)
    return record
