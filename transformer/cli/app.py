"""The commands and their flags. What they do is imported when one of them runs."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options as o
from . import search

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
    "select": "Choose one operation per block under the budget, K times.",
    "rank": "Evaluate the K selections as whole networks and take the best.",
    "finetune": "Train the chosen student.",
    "export": "Write the files of the student.",
    "verify": "Time teacher and student on the target and compare outputs.",
    "report": "Write report.html, report.md and report.json, and show the summary.",
}


def verbs() -> tuple[str, ...]:
    """Return the names of all commands."""
    return tuple(command.name or "" for command in app.registered_commands)


def _stage(verb: str, text: str) -> None:
    """Register a verb that runs passes of the pipeline; all of them take the same flags."""

    def command(
        subject: o.Subject = None,
        target: o.TargetName = None,
        budget: o.BudgetText = None,
        limits: o.Limits = None,
        max_drop: o.MaxDrop = None,
        data: o.DataSpec = None,
        classes: o.Classes = None,
        output: o.Output = None,
        arch: o.Arch = None,
        arch_kwargs: o.ArchKwargs = None,
        trust_model: o.TrustModel = False,
        trust_run: o.TrustRun = False,
        input_shape: o.InputShape = None,
        submodule: o.Submodule = None,
        granularity: o.Granularity = None,
        pool: o.Pool = None,
        precision: o.Precision = None,
        batch_size: o.BatchSize = None,
        solutions: o.Solutions = None,
        max_overlap: o.MaxOverlap = None,
        include: o.Include = None,
        exclude: o.Exclude = None,
        epochs: o.Epochs = None,
        seed: o.Seed = None,
        device: o.Device = None,
        executor: o.Executor = None,
        workers: o.Workers = None,
        memory: o.Memory = None,
        settings: o.Settings = None,
        config: o.ConfigFile = None,
        save_config: o.SaveConfig = None,
        resume: o.Resume = False,
        kit: o.Kit = None,
        latencies: o.Import = None,
        dry_run: o.DryRun = False,
        as_json: o.AsJson = False,
        verbose: o.Verbose = 0,
        quiet: o.Quiet = False,
    ) -> int:
        flags = dict(locals())
        from .stages import run_stage

        return run_stage(verb, flags)

    command.__doc__ = text
    app.command(verb)(command)


for _verb, _text in _STAGES.items():
    _stage(_verb, _text)


@app.command("inspect")
def inspect(
    subject: o.Subject = None,
    data: o.DataSpec = None,
    classes: o.Classes = None,
    arch: o.Arch = None,
    arch_kwargs: o.ArchKwargs = None,
    trust_model: o.TrustModel = False,
    trust_run: o.TrustRun = False,
    input_shape: o.InputShape = None,
    submodule: o.Submodule = None,
    granularity: o.Granularity = None,
    include: o.Include = None,
    exclude: o.Exclude = None,
    settings: o.Settings = None,
    config: o.ConfigFile = None,
    graph: o.ShowGraph = False,
    svg: o.Picture = None,
    as_json: o.AsJson = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> int:
    """Show the blocks of a network, and why the rest is in no block."""
    flags = dict(locals())
    from .inspection import run_inspect

    return run_inspect(flags)


@app.command("targets")
def targets(as_json: o.AsJson = False, verbose: o.Verbose = 0, quiet: o.Quiet = False) -> int:
    """List the targets and whether this machine can measure on them."""
    from .listings import run_targets

    return run_targets(as_json)


@app.command("ops")
def ops(
    input: o.OpInput,
    output: o.OpOutput = None,
    pool: o.Pool = None,
    as_json: o.AsJson = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> int:
    """List the operations of a pool between two shapes, with their MACs and parameters."""
    from .listings import run_ops

    return run_ops(input, output, pool or "fast", as_json)


@app.command("demo")
def demo(
    output: o.Output = None,
    budget: o.BudgetText = None,
    as_json: o.AsJson = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> int:
    """Do the whole job on the digits teacher and the handwritten digits that come along (about 4 minutes)."""
    from .stages import run_demo

    return run_demo(output, budget, as_json=as_json, verbose=verbose, quiet=quiet)


search.register(app)


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
