"""The commands. Their flags are made from fields, and what they do is imported when one of them runs."""

from __future__ import annotations

from typing import Annotated

import typer

from ..pipeline.default import ORDERS, verb_passes
from ..plugins import registered
from .options import (
    ApplyCommand,
    Command,
    InspectCommand,
    OpsCommand,
    OptionsCommand,
    ParetoCommand,
    ShrinkCommand,
    StageCommand,
)
from .verbs import Verb

app = typer.Typer(
    name="hant-opt",
    help="Make a trained vision network meet a latency budget, measured on your device, with the least loss.\n\n"
    "hant-opt MODEL --target cpu-ort --budget 0.45 --data digits does the whole job; the verbs do it in steps.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 bug, 2 wrong usage or input, 3 limit cannot be met, 4 done but not verified.",
)
ClickError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException" and issubclass(kind, Exception)
)
"""Base of the parser's errors; some versions of typer bring their own copy of click."""
AbortError = typer.Abort

_STAGES = {
    "optimize": "The whole job: from a trained network to a faster one. The default verb.",
    "profile": "Find the blocks, list the candidates and time them on the target.",
    "pretrain": "Train every candidate to do what its block does.",
    "score": "Measure the change of loss when one candidate alone replaces its block.",
    "select": "Choose one operation per block under the budget, K times, by the engine of --search.",
    "design": "Design a network for a budget around a MasterNet: hant-opt design genet:digits --data digits -b 0.6.",
    "search": "Find the K selections by --search: linear, errors, prunet (without scores); ilp (score, then select).",
    "rank": "Evaluate the K selections as whole networks and take the best.",
    "align": "Train the chosen student on the teacher's features.",
    "finetune": "Train the student on labels and the teacher's answers.",
    "export": "Write the files of the student.",
    "verify": "Time teacher and student on the target and compare outputs.",
    "report": "Write report.html, report.md and report.json, and show the summary.",
}


def _run_stage(command: StageCommand) -> int:
    from .stages import run_stage

    return run_stage(command)


def _run_inspect(command: InspectCommand) -> int:
    from .inspection import run_inspect

    return run_inspect(command)


def _run_targets(command: Command) -> int:
    from .listings import run_targets

    return run_targets(command)


def _run_ops(command: OpsCommand) -> int:
    from .listings import run_ops

    return run_ops(command)


def _run_options(command: OptionsCommand) -> int:
    from .listings import run_options

    return run_options(command)


def _run_demo(command: Command) -> int:
    from .stages import run_demo

    return run_demo(command)


def _run_pareto(command: ParetoCommand) -> int:
    from .studies import run_pareto

    return run_pareto(command)


def _run_shrink(command: ShrinkCommand) -> int:
    from .shrink import run_shrink

    return run_shrink(command)


def _run_passes(command: ApplyCommand) -> int:
    from .studies import run_passes

    return run_passes(command)


_OPENING = ("reading", "model", "run")


ALL = (
    *(
        Verb(
            name,
            text,
            StageCommand,
            _run_stage,
            (*_OPENING, *(stage for engine in ORDERS for stage in verb_passes(name, engine))),
            keeps=True,
        )
        for name, text in _STAGES.items()
    ),
    Verb(
        "inspect",
        "Show the blocks of a network, and why the rest is in no block.",
        InspectCommand,
        _run_inspect,
        ("reading", "model", "capture"),
    ),
    Verb("targets", "List the targets and whether this machine can measure on them.", Command, _run_targets),
    Verb(
        "ops",
        "List the operations of a pool between two shapes, with their MACs and parameters.",
        OpsCommand,
        _run_ops,
        ("ops",),
    ),
    Verb("options", "List the options of passes, for --set.", OptionsCommand, _run_options),
    Verb(
        "demo",
        "Do the whole job on the digits teacher and the handwritten digits that come along (about 4 minutes).",
        Command,
        _run_demo,
        ("demo",),
    ),
    Verb(
        "pareto",
        "Find the best network for each of several budgets from one run, before fine-tuning.",
        ParetoCommand,
        _run_pareto,
        ("reading", "study", "pareto"),
    ),
    Verb(
        "shrink",
        "Make a student for each of several budgets and targets from one training.",
        ShrinkCommand,
        _run_shrink,
        (*_OPENING, *verb_passes("optimize", "ilp"), *verb_passes("optimize", "linear")),
        keeps=True,
    ),
    Verb(
        "apply",
        "Run any registered passes on a run: figures, proxy, baselines, or your own.",
        ApplyCommand,
        _run_passes,
        ("reading", "study", *(name for name in registered("hant.passes") if name != "capture")),
    ),
)
"""All verbs, in the order of ``--help``."""
for _verb in ALL:
    _verb.register(app)


def verbs() -> tuple[str, ...]:
    """Return the names of all commands."""
    return tuple(verb.name for verb in ALL)


def _version(asked: bool) -> None:
    if asked:
        from ... import __version__

        typer.echo(f"hant-opt {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version.")
    ] = False,
) -> None:
    """Flags that stand before a verb."""
