"""``hant-opt pareto`` and ``hant-opt apply``: studies of a run that is scored. Imports nothing heavy by itself."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options as o

Option, Argument = typer.Option, typer.Argument
Run = Annotated[str, Argument(metavar="RUN", help="The directory of a run that is scored.")]
Budgets = Annotated[str | None, Option("--budgets", help="Budgets divided by commas: 0.3,0.45,0.6,12ms.")]
Targets = Annotated[
    str | None, Option("--targets", help="Targets divided by commas; the run's own if left out. Nothing is retrained.")
]
Passes = Annotated[list[str], Argument(metavar="PASS...", help="figures, proxy, baseline-random, or any registered.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("pareto")(pareto)
    app.command("apply")(apply)


def pareto(
    subject: Run,
    budgets: Budgets = None,
    targets: Targets = None,
    limits: o.Limits = None,
    data: o.DataSpec = None,
    trust_model: o.TrustModel = False,
    trust_run: o.TrustRun = False,
    solutions: o.Solutions = None,
    max_overlap: o.MaxOverlap = None,
    device: o.Device = None,
    settings: o.Settings = None,
    as_json: o.AsJson = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> int:
    """Find the best network for each of several budgets from one run, before fine-tuning."""
    flags = dict(locals())
    from .studies import run_pareto

    return run_pareto(flags)


def apply(
    subject: Run,
    names: Passes,
    budget: o.BudgetText = None,
    limits: o.Limits = None,
    data: o.DataSpec = None,
    trust_model: o.TrustModel = False,
    trust_run: o.TrustRun = False,
    device: o.Device = None,
    settings: o.Settings = None,
    as_json: o.AsJson = False,
    verbose: o.Verbose = 0,
    quiet: o.Quiet = False,
) -> int:
    """Run any registered passes on a run: figures, proxy, baselines, or your own."""
    flags = dict(locals())
    from .studies import run_passes

    return run_passes(flags)
