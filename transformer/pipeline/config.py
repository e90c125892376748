"""The configuration of an optimisation: a TOML file and the command's flags say the same things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from ...op_library.spaces import PREFIX
from ...passes.selecting.records import MAKERS, SEARCHES, SearchEngine
from ..contracts.budget import Budget
from ..contracts.record import STUDENT
from ..errors import LoadError, UsageError, nearest
from ..runs.inside import check_inside
from ..runs.students import EXPECTED, is_name
from ..tools.reading import read_toml
from .default import DEFAULT_SEARCH

FILE = "config.toml"
"""Name of the effective configuration inside a run."""
_BEFORE = {"search": "ilp"}
"""What runs were made with whose configuration does not say it."""


JOB, MODEL, SEARCH = "Job", "Model and data", "Search and training"
"""Panels of ``--help``."""
_BASELINES = tuple(f"baseline-{name}" for name in ("ilp", "random", "greedy", "snas", "reinforce", "prunet"))
_BUDGETED = ("profile", *MAKERS, "rank", "design", "verify", "report", *_BASELINES)
_COMPUTING = (
    *("pretrain", "score", *SEARCHES, "rank", "align", "finetune", "verify", "pareto", "proxy"),
    *("master", "perturb", "train", *_BASELINES),
)


@dataclass(frozen=True)
class Flag:
    """How the command takes a field. The flag bears the field's name, and its help is the field's docstring."""

    panel: str = "Run"
    used_by: tuple[str, ...] = ()
    """Of the configuration: passes that use the option, or what else a verb does: ``reading`` a model, working on a
    ``model`` or a ``run``. Of what is said to one command: the verbs; none stands for all that have the flag."""
    also: tuple[str, ...] = ()
    """Further spellings, such as ``-t``."""
    spelled: str = ""
    """The flag, where it does not bear the field's name; without dashes it is an argument."""
    metavar: str = ""
    counted: bool = False
    """Whether the value is how often it is given."""
    handed: Literal["", "any", "named"] = ""
    """Whether passes take the option by field name: any that has such a field, or those of ``used_by`` only."""
    common: bool = False
    """Whether all students of a run have the option in common."""

    def spelling(self, name: str) -> str:
        """Return the flag of the field called ``name``."""
        return self.spelled or f"--{name.replace('_', '-')}"


def declared(model: type[BaseModel]) -> dict[str, tuple[FieldInfo, Flag]]:
    """Return the fields of a model that have a flag."""
    marks = {
        name: (info, [mark for mark in info.metadata if isinstance(mark, Flag)])
        for name, info in model.model_fields.items()
    }
    return {name: (info, found[0]) for name, (info, found) in marks.items() if found}


class Config(BaseModel):
    """Everything that decides what an optimisation does. ``None`` means: the default of whoever uses it.

    Each option is declared here and nowhere else: as flag, key of a file, help, and check of its values. What is left
    out of files (``exclude``) is given to each command anew.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="constants")

    model: str = ""
    """File of the teacher; may be empty where ``arch`` alone makes it."""
    target: Annotated[str, Flag(JOB, ("run",), also=("-t",))] = "cpu-ort"
    """Where the student will run: a name that hant-opt targets lists, or a target file."""
    budget: Annotated[str | None, Flag(JOB, (*_BUDGETED, "demo"), also=("-b",), handed="any")] = None
    """``0.45`` of the teacher's latency, ``45%``, ``12ms`` or ``80img/s``."""
    limits: Annotated[tuple[str, ...], Flag(JOB, (*_BUDGETED, "pareto"), also=("--limit",), metavar="NAME=VALUE")] = ()
    """A further limit: ``params=50%``, ``macs=300M``, ``memory=8MiB``; may be given several times."""
    max_drop: Annotated[float | None, Flag(JOB, ("report",), metavar="POINTS", handed="any")] = Field(
        default=None, ge=0, allow_inf_nan=False
    )
    """Fail (exit code 3) if more accuracy is lost, in the unit of the metric: points of top-1."""
    data: Annotated[str | None, Flag(JOB, ("reading",), common=True)] = None
    """``digits``, ``cifar10:DIR``, ``imagefolder:DIR``, ``package.module:function`` or ``file.py:function``."""
    classes: Annotated[str | None, Flag(JOB, ("reading",), metavar="FILE", common=True)] = None
    """Which class folder of ``imagefolder:DIR`` is which output of the network: a text, one a line."""
    precision: Annotated[str | None, Flag(JOB, ("run",))] = None
    """``fp32``, ``fp16``, ...: instead of the target's."""
    batch_size: Annotated[int | None, Flag(JOB, ("run",))] = Field(default=None, ge=1)
    """Batch of the measured network, instead of the target's."""
    student: Annotated[str, Flag(JOB, ("run", "study"), metavar="NAME")] = Field(default=STUDENT, exclude=True)
    """Name of the student that is meant: a run can have many, each with a budget, target and files of its own."""
    output: Annotated[str | None, Flag(JOB, ("run", "demo"), also=("-o",), metavar="DIR")] = None
    """Directory of the run."""
    arch: Annotated[str | None, Flag(MODEL, ("model",), common=True)] = None
    """``timm:NAME``, ``torchvision:NAME``, ``package.module:function`` or ``file.py:function``."""
    arch_kwargs: Annotated[dict[str, Any], Flag(MODEL, ("model",), metavar="JSON", common=True)] = {}
    """Its arguments: ``{"num_classes": 10}``."""
    trust_model: Annotated[bool, Flag(MODEL, ("reading",))] = Field(default=False, exclude=True)
    """Let the model file run code when it is read; for this command only."""
    trust_run: Annotated[bool, Flag(MODEL, ("reading",))] = Field(default=False, exclude=True)
    """Run the code that the stored configuration of somebody else's run names; for this command only."""
    input_shape: Annotated[tuple[str, ...], Flag(MODEL, ("model",), metavar="SHAPE", common=True)] = ()
    """``3x224x224``, or ``x:1x3x224x224`` with name and batch; one for every input."""
    submodule: Annotated[str | None, Flag(MODEL, ("model",), metavar="PATH", common=True)] = None
    """Work on this part of the model alone: ``backbone``."""
    granularity: Annotated[
        Literal["fine", "block", "stage"] | None, Flag(MODEL, ("capture",), handed="any", common=True)
    ] = None
    """How large blocks are: parts of blocks, blocks, or stages of them."""
    include: Annotated[tuple[str, ...], Flag(SEARCH, ("capture",), metavar="PATTERN", handed="any", common=True)] = ()
    """Replace only the blocks of these patterns."""
    exclude: Annotated[tuple[str, ...], Flag(SEARCH, ("capture",), metavar="PATTERN", handed="any", common=True)] = ()
    """Leave the blocks of these patterns alone."""
    master: Annotated[str | None, Flag(MODEL, ("master",), metavar="STRUCTURE", handed="named", common=True)] = None
    """Network that designs are searched around: ``genet:cifar`` or a structure's text; the model itself if left out."""
    preset: Annotated[
        Literal["auto", "paper"] | None, Flag(SEARCH, ("perturb", "gradient", "train"), handed="named")
    ] = None
    """With ``design``: where options come from that are not given: ``auto``, for CPUs, or ``paper``."""
    resolutions: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Flag(SEARCH, ("superblocks",), metavar="SIZES", handed="any"),
    ] = ()
    """With ``design``: heights of images to design for, ``24,32``, in pixels; the teacher's alone if left out."""
    pool: Annotated[str, Flag(SEARCH, ("run", "ops"), common=True)] = "fast"
    """Operations to choose from: a pool's name or file, or operations divided by commas."""
    search: Annotated[
        SearchEngine,
        Flag(SEARCH, ("score", *MAKERS, "pareto"), metavar="ENGINE", handed="any"),
    ] = DEFAULT_SEARCH
    """How selections are found: ``errors`` by the sum of pretraining's own errors, ``linear`` from there on by linear
    steps at whole networks, ``ilp`` by scores and their sum, ``columns`` so with new widths, ``prunet`` by training the
    operations together; ``design`` and ``shared`` (in weights that ``hant-opt shrink`` has trained) are the engines of
    their verbs, ``scratch`` that of a space (``hant-opt space:cifar``), which is searched from nothing."""
    solutions: Annotated[
        int | None,
        Flag(SEARCH, (*MAKERS, "pareto", "design", "baseline-ilp"), also=("-k",), handed="any"),
    ] = Field(default=None, ge=1)
    """How many selections to rank."""
    max_overlap: Annotated[
        float | None,
        Flag(SEARCH, (*MAKERS, "pareto", "proxy", "design", "baseline-ilp"), handed="any"),
    ] = Field(default=None, ge=0, le=1)
    """Largest share of blocks that two selections have in common."""
    epochs: Annotated[int | None, Flag(SEARCH, ("finetune", "train"), handed="named")] = Field(default=None, ge=0)
    """Epochs of fine-tuning; 0 skips it."""
    seed: Annotated[int, Flag(SEARCH, ("run",), common=True)] = Field(default=0, ge=0, lt=2**63)
    """Decides everything that is random."""
    device: Annotated[str, Flag(SEARCH, _COMPUTING)] = "auto"
    """Where training runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``."""
    executor: Annotated[Literal["local", "ray"] | None, Flag(SEARCH, ("pretrain",), handed="named")] = None
    """Where candidates are trained."""
    workers: Annotated[int | None, Flag(SEARCH, ("pretrain",), handed="named")] = Field(default=None, ge=1)
    """How many train candidates at a time."""
    memory: Annotated[int | None, Flag(SEARCH, ("pretrain",), metavar="MIB", handed="named")] = Field(
        default=None, ge=1
    )
    """Bound on what candidates in training take together."""
    shared: bool | None = None
    """Whether the student is cut out of the weights that ``hant-opt shrink`` trains for several: that verb says so."""
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

    @model_validator(mode="before")
    @classmethod
    def _of_space(cls, values: Any) -> Any:
        """Take the pool of a space, with all its widths, and train what is found on labels alone."""
        if not isinstance(values, dict) or not str(values.get("model") or values.get("arch") or "").startswith(PREFIX):
            return values
        name, passes = values.get("model") or values["arch"], dict(values.get("passes") or {})
        alone: dict[str, dict[str, Any]] = {
            "profile": {"keep_slower": True, "widths": "bisect"},
            "align": {"epochs": 0},
            "finetune": {"preload": "none", "distillation": 0.0},
        }
        for stage, table in alone.items():
            passes[stage] = table | dict(passes.get(stage) or {})
        return {**values, "pool": name, "search": "scratch", "passes": passes}

    @field_validator("student")
    @classmethod
    def _student_name(cls, value: str) -> str:
        if not is_name(value):
            raise PydanticCustomError("name", EXPECTED)
        return value

    @field_validator("budget", mode="before")
    @classmethod
    def _budget_text(cls, value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return f"{value:g}" if is_number else value

    @field_validator("limits", "input_shape", "include", "exclude", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("resolutions", mode="before")
    @classmethod
    def _sides(cls, value: Any) -> Any:
        parts = [value] if isinstance(value, str | int) else value
        return [side for part in parts for side in (part.split(",") if isinstance(part, str) else [part])]

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


NEVER_STORED = tuple(name for name, info in Config.model_fields.items() if info.exclude)
"""Options that no file holds: a command that needs one is given it."""


def read(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file.

    Raises:
        LoadError: missing, unreadable or not TOML.
        UsageError: it says what only a command can say.
    """
    if not path.exists():
        raise LoadError(f"no configuration file {path}; --save-config {path} writes one")
    values = read_toml(path, f"configuration {path}", LoadError)
    for name in NEVER_STORED:
        if values.get(name):
            flag = declared(Config)[name][1].spelling(name)
            raise UsageError(f"{path}: {name} is not taken from a file; give {flag} with the command")
    return values


def read_stored(root: Path) -> dict[str, Any]:
    """Return the values of a run's own configuration; trust that one of before had stored is not among them.

    Raises:
        LoadError: missing, unreadable or not TOML.
        StorageError: the run holds links.
    """
    check_inside(root)
    values = read_toml(root / FILE, f"configuration {root / FILE}", LoadError)
    return _BEFORE | {name: value for name, value in values.items() if name not in NEVER_STORED}


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Lay values over each other, later over earlier; tables such as ``passes`` are merged key by key."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            old = merged.get(name)
            merged[name] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def dump(config: Config) -> str:
    """Return the configuration as TOML; what is ``None`` or empty by default is left out, and trust is never stored."""
    options: dict[str, Any] = {"mode": "json", "exclude_none": True, "exclude": set(NEVER_STORED)}
    values, usual = config.model_dump(**options), Config().model_dump(**options)
    empty = {name for name, value in values.items() if value in ("", [], {}) and value == usual.get(name)}
    return tomli_w.dumps({name: value for name, value in values.items() if name not in empty})
