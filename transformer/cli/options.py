"""What is said to one command and kept in no file; the rest of the flags are the fields of ``pipeline.config``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict

from ..pipeline.config import SEARCH, Flag

_FILE = Flag(metavar="FILE")
_SUBJECT = Flag(spelled="MODEL|RUN")
_RUN = Flag(spelled="RUN")


class Command(BaseModel):
    """What every command takes."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    verb: str
    given: dict[str, Any] = {}
    """All flags that were given, the configuration's too, by name of field."""
    unused: tuple[str, ...] = ()
    """Flags among them that the run keeps for other verbs."""
    as_json: Annotated[bool, Flag(spelled="--json")] = False
    """Result as JSON on standard output, all else on standard error."""
    verbose: Annotated[int, Flag(also=("-v",), counted=True)] = 0
    """Say more; -vv shows tracebacks."""
    quiet: Annotated[bool, Flag(also=("-q",))] = False
    """Say nothing but errors and the result."""


class _Configured(Command):
    settings: Annotated[tuple[str, ...], Flag(SEARCH, spelled="--set", metavar="PASS.OPTION=VALUE")] = ()
    """An option of one pass: finetune.learning_rate=0.01; hant-opt options lists them."""


class ModelCommand(_Configured):
    """A command on a model or a run."""

    subject: Annotated[str | None, _SUBJECT] = None
    """A trained network, or the directory of a run to go on with."""
    config: Annotated[str | None, _FILE] = None
    """TOML file that says what flags say; flags win."""


class InspectCommand(ModelCommand):
    """``inspect``."""

    graph: Annotated[bool, Flag()] = False
    """Show the whole graph as text."""
    svg: Annotated[str | None, _FILE] = None
    """Draw the blocks into an SVG file."""


class StageCommand(ModelCommand):
    """A verb that runs passes of the pipeline."""

    save_config: Annotated[str | None, _FILE] = None
    """Write the configuration of this command."""
    resume: Annotated[bool, Flag()] = False
    """Insist that the run exists already."""
    kit: Annotated[str | None, Flag(metavar="FILE", used_by=("profile",))] = None
    """Write a kit (zip) to measure on a device without hant."""
    latencies: Annotated[str | None, Flag(metavar="FILE", spelled="--import")] = None
    """Latencies measured elsewhere: the result.json of a kit, or a table."""
    export: Annotated[str | None, Flag(metavar="FILE", used_by=("profile",))] = None
    """Write the measured latencies as a table (JSON) that --import takes."""
    dry_run: Annotated[bool, Flag()] = False
    """Say what would be done and write nothing."""


class OpsCommand(Command):
    """``ops``."""

    input: Annotated[str, Flag(metavar="SHAPE")]
    """Shape that goes in: 16x32x32."""
    output: Annotated[str | None, Flag(also=("-o",), metavar="SHAPE")] = None
    """Shape that comes out; as the input if left out."""


class StudyCommand(_Configured):
    """A command on a run that is scored, whose flags change nothing in it."""

    subject: Annotated[str, _RUN]
    """The directory of a run that is scored."""


class FrontCommand(Command):
    """A command that makes a front."""

    budgets: Annotated[str | None, Flag()] = None
    """Budgets divided by commas: 0.3,0.45,0.6,12ms."""
    targets: Annotated[str | None, Flag()] = None
    """Targets divided by commas, each with all budgets; the run's own if left out."""


class ParetoCommand(FrontCommand, StudyCommand):
    """``pareto``."""

    alphas: Annotated[str | None, Flag()] = None
    """Prices of latency divided by commas, in place of budgets, with --search prunet: 0.2,0.4,0.8."""


class ShrinkCommand(FrontCommand, ModelCommand):
    """``shrink``."""

    anew: Annotated[bool, Flag()] = False
    """Train again what was trained before, for the budgets that are given."""


class ApplyCommand(StudyCommand):
    """``apply``."""

    names: Annotated[tuple[str, ...], Flag(spelled="PASS...")]
    """figures, proxy, baseline-random, or any registered."""


class OptionsCommand(Command):
    """``options``."""

    names: Annotated[tuple[str, ...], Flag(spelled="[PASS...]")] = ()
    """Passes to list; all if left out."""
