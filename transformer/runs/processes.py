"""The processes that a launcher (``accelerate launch``, ``torchrun``) has started for one job."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ..errors import UsageError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Processes:
    """The place of one process among those of the job."""

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes the run and speaks to the user."""
        return self.rank == 0


def processes() -> Processes:
    """Return this process among those of the job, as launchers say it in the environment.

    Raises:
        UsageError: the environment's RANK and WORLD_SIZE are no numbers, or do not fit each other.
    """
    rank, count = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and count.isdecimal() and int(rank) < max(1, int(count))):
        raise UsageError(
            f"RANK={rank} and WORLD_SIZE={count} of the environment do not fit; start several processes with "
            "accelerate launch or torchrun, and one without these variables"
        )
    return Processes(int(rank), max(1, int(count)))


def join(device: str = "auto") -> torch.device:
    """Meet the other processes of the job; return the device that this one trains on.

    Raises:
        UsageError: one device is named, which several processes cannot each have.
    """
    from accelerate import PartialState

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"{processes().count} processes cannot share device {device!r}; give --device auto or cpu")
    return cast("torch.device", PartialState(cpu=device == "cpu").device)


def wait() -> None:
    """Wait until every process of the job is here; with one process, do nothing."""
    if processes().count > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
