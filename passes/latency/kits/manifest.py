"""What a kit says of itself, and what comes back from the device. Fields are added, never renamed, within a version."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ....transformer.contracts.target import Target
from ....transformer.contracts.timing import MOST_MS


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Input(_Plain):
    """An input of a network, filled with noise on the device."""

    shape: tuple[int, ...]
    """With the batch."""
    dtype: str
    """numpy's name."""


class Network(_Plain):
    """A lowered file with its inputs in order."""

    file: str
    inputs: tuple[Input, ...]


class RowPlan(_Plain):
    """A row of the lookup table, and how it follows from the timings of its group (``profile_row.Formula``)."""

    key: str
    operation: str
    input: str
    output: str
    weights: tuple[tuple[int, float], ...]
    """(index of the network in the group, weight)."""
    plus: str = ""
    """Key of the row that is added; empty for none."""


class GroupPlan(_Plain):
    """Networks that are timed interleaved; the first is the whole teacher."""

    name: str
    what: str
    """For people."""
    max_rounds: int = Field(ge=1)
    networks: tuple[Network, ...]
    rows: tuple[RowPlan, ...] = ()
    selections: tuple[dict[str, str], ...] = ()
    """Block -> operation of the whole networks after the teacher, where the group is of whole networks."""


class Manifest(_Plain):
    """``manifest.json`` of a kit."""

    version: Literal[1] = 1
    hant: str
    """Version that wrote it."""
    target: Target
    teacher: str
    """Hash of the teacher's weights and, after a hyphen, of what it computes with them; older kits lack the second."""
    inputs: tuple[str, ...]
    """Shapes of one sample."""
    pool: tuple[str, ...]
    needs: dict[str, str]
    """Modules that the script imports -> what installs them."""
    settings: dict[str, object]
    """Of the runtime, as the script takes them."""
    asked: dict[str, str]
    """The part of the latencies' provenance that the target decides."""
    groups: tuple[GroupPlan, ...]
    unfit: dict[str, str] = {}
    """Rows that could not be lowered, with the reason."""


class Measured(_Plain):
    """A group that was timed."""

    samples: tuple[tuple[Annotated[float, Field(gt=0, le=MOST_MS)], ...], ...]
    """Of each network (ms), round by round; empty for one that cannot be run."""
    converged: tuple[bool, ...]
    """Of each network that can be run."""
    errors: dict[int, str] = {}
    """Index of a network that cannot be run -> why."""
    date: str
    seconds: float = Field(ge=0)


class KitResult(_Plain):
    """``result.json``: what the device measured so far."""

    version: Literal[1] = 1
    digest: str
    """Of the manifest."""
    kit: Manifest
    device: dict[str, str]
    """What the latencies depend on, as seen there."""
    groups: dict[str, Measured]
