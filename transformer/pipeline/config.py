"""The configuration of an optimisation: a TOML file and the command's flags say the same things."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from ..contracts.budget import Budget
from ..contracts.inside import check_inside
from ..errors import LoadError, UsageError, nearest
from ..reading import read_toml

FILE = "config.toml"
"""Name of the effective configuration inside a run."""

NEVER_STORED = ("trust_model", "trust_run")
"""Options that a command must say itself, each time."""


class Config(BaseModel):
    """Everything that decides what an optimisation does. ``None`` means: the default of whoever uses it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    model: str = ""
    """File of the teacher; may be empty where ``arch`` alone makes it."""
    arch: str | None = None
    """``timm:NAME``, ``torchvision:NAME``, ``package.module:function`` or ``file.py:function``."""
    arch_kwargs: dict[str, Any] = {}
    trust_model: bool = False
    """Whether the model file may run code when it is read. Of one command: never stored."""
    trust_run: bool = False
    """Whether code may run that the stored configuration of a run of somebody else names. Never stored."""
    target: str = "cpu-ort"
    """Name of a target or path of a target file."""
    precision: str | None = None
    batch_size: int | None = Field(default=None, ge=1)
    """Of the measured network."""
    budget: str | None = None
    """``0.45``, ``45%``, ``12ms`` or ``80img/s``."""
    limits: tuple[str, ...] = ()
    """Further limits such as ``params=50%``."""
    data: str | None = None
    classes: str | None = None
    """File that says which class folder of ``imagefolder:DIR`` is which output of the network, one a line."""
    pool: str = "fast"
    """Name of a pool, or operations divided by commas."""
    input_shape: tuple[str, ...] = ()
    """``3x224x224``, or ``name:1x3x224x224`` with the batch; one for every input."""
    submodule: str | None = None
    """Path of the part of the model to work on, such as ``backbone``; all of it if left out."""
    granularity: Literal["fine", "block", "stage"] | None = None
    """How large blocks are: parts of blocks, blocks, or stages of them."""
    include: tuple[str, ...] = ()
    """Patterns of the blocks that may be replaced."""
    exclude: tuple[str, ...] = ()
    """Patterns of the blocks that may not."""
    solutions: int | None = Field(default=None, ge=1)
    max_overlap: float | None = Field(default=None, ge=0, le=1)
    max_drop: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Largest loss that is allowed, in the unit of the metric: points of top-1."""
    epochs: int | None = Field(default=None, ge=0)
    """Of fine-tuning; 0 skips it."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    device: str = "auto"
    """Where training runs: ``cpu``, ``cuda``, ``cuda:1`` or ``auto``."""
    executor: Literal["local", "ray"] | None = None
    """Where candidates are trained."""
    workers: int | None = Field(default=None, ge=1)
    """How many train candidates at a time."""
    memory: int | None = Field(default=None, ge=1)
    """Bound in MiB on what candidates in training take together."""
    output: str | None = None
    """Directory of the run."""
    passes: dict[str, dict[str, Any]] = {}
    """Options of single passes: ``[passes.finetune] learning_rate = 0.01``."""

    _foreign: tuple[str, ...] = PrivateAttr(())

    @property
    def foreign(self) -> tuple[str, ...]:
        """Options that name code and come from a stored configuration that is not this user's (``trust.py``)."""
        return self._foreign

    def with_foreign(self, names: tuple[str, ...]) -> Config:
        """Return this configuration with a note of such options."""
        marked = self.model_copy()
        marked._foreign = names
        return marked

    @field_validator("budget", mode="before")
    @classmethod
    def _budget_text(cls, value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return f"{value:g}" if is_number else value

    @field_validator("limits", "input_shape", "include", "exclude", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def parsed_budget(self) -> Budget | None:
        """Return the budget with its limits; None if none was given.

        Raises:
            UsageError: it cannot be read.
        """
        if self.budget is None:
            if self.limits:
                raise UsageError("--limit needs a --budget too, such as --budget 0.45")
            return None
        return Budget.parse(self.budget, self.limits, self.batch_size or 1)


def make(values: Mapping[str, Any], where: str = "configuration") -> Config:
    """Return a configuration from plain values; ``where`` is named in errors.

    Raises:
        UsageError: an unknown option, with the nearest name, or a value that does not fit.
    """
    for name in values:
        if name not in Config.model_fields:
            raise UsageError(f"{where}: unknown option {name!r}{nearest(name, Config.model_fields)}")
    try:
        return Config.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: {option}: {first['msg'].lower()} (got {first['input']!r:.80})") from error


def read(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file.

    Raises:
        LoadError: missing, unreadable or not TOML.
        UsageError: it gives trust, which a command must do itself.
    """
    if not path.exists():
        raise LoadError(f"no configuration file {path}; --save-config {path} writes one")
    values = read_toml(path, f"configuration {path}", LoadError)
    for name in NEVER_STORED:
        if values.get(name):
            raise UsageError(f"{path}: {name} is not taken from a file; give --{name.replace('_', '-')} yourself")
    return values


def read_stored(root: Path) -> dict[str, Any]:
    """Return the values of a run's own configuration; trust that one of before had stored is not among them.

    Raises:
        LoadError: missing, unreadable or not TOML.
        StorageError: the run holds links.
    """
    check_inside(root)
    values = read_toml(root / FILE, f"configuration {root / FILE}", LoadError)
    return {name: value for name, value in values.items() if name not in NEVER_STORED}


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Lay values over each other, later over earlier; tables such as ``passes`` are merged key by key."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            old = merged.get(name)
            merged[name] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def dump(config: Config) -> str:
    """Return the configuration as TOML; what is ``None`` or empty is left out, and trust is never stored."""
    values = config.model_dump(mode="json", exclude_none=True, exclude=set(NEVER_STORED))
    return tomli_w.dumps({name: value for name, value in values.items() if value not in ("", [], {})})
