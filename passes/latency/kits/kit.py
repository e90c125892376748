"""Write everything a device needs to measure what the table lacks: the search runs anywhere, the measuring there.

The device needs Python, numpy and the runtime; nothing of hant.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ....transformer.contracts.context import Context
from ....transformer.contracts.pass_ import Count, Pass, PassResult, setting
from ....transformer.contracts.store import Store
from ...ranking.records import WinnerRecord
from ...selecting.records import SelectionRecord
from ..calibration import calibration_networks
from ..plan import plan
from ..predict import network_key
from ..records import NetworkLatencyRecord
from ..rows import refuse
from ..table import fastest, least
from .pack import write_kit


@dataclass(frozen=True)
class KitPass(Pass):
    """Write a kit of the rows that the table lacks and of the whole networks that should be measured next."""

    name: ClassVar[str] = "kit"
    requires: ClassVar[tuple[str, ...]] = ("operation",)
    durable: ClassVar[bool] = False

    file: str = "kit.zip"
    group: Count = setting(12, decides=False)
    """Operations that are timed interleaved."""

    def run(self, context: Context) -> PassResult:
        """Lower and pack; the device itself need not be here."""
        path, store, todo = Path(self.file), context.store, plan(context)
        choices = networks_to_measure(store, complete=not todo.missing)
        known = store.get(NetworkLatencyRecord, "teacher")
        whole = known is None or known.timing.estimated
        manifest = write_kit(context, path, todo, choices, self.group, whole)
        with store.transaction():
            for key, reason in manifest.unfit.items():
                refuse(store, key, reason)
        rows = sum(len(group.rows) for group in manifest.groups)
        networks = sum(len(group.selections) for group in manifest.groups)
        size = path.stat().st_size / 1e6
        return PassResult(
            notes=(
                f"{path} ({size:.1f} MB) measures {rows} operations and {networks} whole networks on "
                f"{context.target.name}",
                f"on the device: python measure.py; then here: hant-opt profile {store.address} --import result.json",
            )
        )


def networks_to_measure(store: Store, *, complete: bool) -> list[dict[str, str]]:
    """Return the whole networks (block -> operation) whose latency is wanted next and not measured yet.

    The fastest one, which bounds what can be reached and corrects predictions: by the table where that is
    ``complete``, else the one of the fewest MACs. Those that the table is put right by. And the networks that selection
    and ranking chose.
    """
    wanted = [fastest(store) if complete else fewest_macs(store)]
    selected = store.get(SelectionRecord, "000")
    winner = store.get(WinnerRecord, "winner")
    wanted += calibration_networks(store)
    wanted += [record.choice for record in (selected, winner) if record is not None]
    known = {key for key, record in store.all(NetworkLatencyRecord).items() if not record.timing.estimated}
    new = {network_key(choice): choice for choice in wanted}
    return [choice for key, choice in new.items() if key not in known and key != "teacher"]


def fewest_macs(store: Store) -> dict[str, str]:
    """Return each block's operation of the fewest MACs: a guess at the fastest network before anything is measured."""
    return least(store, lambda record: record.macs)
