"""The flags, each once."""

from __future__ import annotations

from typing import Annotated

import typer

_JOB, _MODEL, _SEARCH, _RUN = "Job", "Model and data", "Search and training", "Run"
Option, Argument = typer.Option, typer.Argument

Subject = Annotated[
    str | None, Argument(metavar="MODEL|RUN", help="A trained network, or the directory of a run to go on with.")
]
TargetName = Annotated[
    str | None, Option("--target", "-t", help="Where the student will run; see hant-opt targets.", rich_help_panel=_JOB)
]
BudgetText = Annotated[
    str | None,
    Option("--budget", "-b", help="0.45 of the teacher's latency, 45%, 12ms or 80img/s.", rich_help_panel=_JOB),
]
Limits = Annotated[
    list[str] | None,
    Option(
        "--limit",
        metavar="NAME=VALUE",
        help="A further limit: params=50%, macs=300M, memory=8MiB.",
        rich_help_panel=_JOB,
    ),
]
MaxDrop = Annotated[
    float | None,
    Option(
        "--max-drop",
        metavar="POINTS",
        help="Fail (exit code 3) if more accuracy is lost, in the unit of the metric: points of top-1.",
        rich_help_panel=_JOB,
    ),
]
DataSpec = Annotated[
    str | None,
    Option(
        "--data",
        help="digits, cifar10:DIR, imagefolder:DIR, package.module:function or file.py:function.",
        rich_help_panel=_JOB,
    ),
]
Classes = Annotated[
    str | None,
    Option(
        "--classes",
        metavar="FILE",
        help="The class folder of each output of the network, one a line.",
        rich_help_panel=_JOB,
    ),
]
Output = Annotated[str | None, Option("--output", "-o", help="Directory of the run.", rich_help_panel=_JOB)]
Arch = Annotated[
    str | None,
    Option("--arch", help="timm:resnet18, package.module:function or file.py:function.", rich_help_panel=_MODEL),
]
ArchKwargs = Annotated[
    str | None,
    Option("--arch-kwargs", metavar="JSON", help='Its arguments: {"num_classes": 10}.', rich_help_panel=_MODEL),
]
TrustModel = Annotated[
    bool, Option("--trust-model", help="Let the model file run code when it is read.", rich_help_panel=_MODEL)
]
TrustRun = Annotated[
    bool,
    Option(
        "--trust-run",
        help="Run the code that a run from elsewhere names: its --arch and --data.",
        rich_help_panel=_MODEL,
    ),
]
InputShape = Annotated[
    list[str] | None,
    Option("--input-shape", metavar="SHAPE", help="3x224x224, or x:1x3x224x224; one an input.", rich_help_panel=_MODEL),
]
Submodule = Annotated[
    str | None, Option("--submodule", metavar="PATH", help="Work on this part alone: backbone.", rich_help_panel=_MODEL)
]
Granularity = Annotated[
    str | None,
    Option("--granularity", metavar="LEVEL", help="fine (parts of blocks), block or stage.", rich_help_panel=_MODEL),
]
Pool = Annotated[
    str | None, Option("--pool", help="Operations to choose from: a pool's name, or names.", rich_help_panel=_SEARCH)
]
Precision = Annotated[str | None, Option("--precision", help="fp32, fp16, ...: of the target.", rich_help_panel=_JOB)]
BatchSize = Annotated[int | None, Option("--batch-size", help="Batch of the measured network.", rich_help_panel=_JOB)]
Solutions = Annotated[
    int | None, Option("--solutions", "-k", help="How many selections to rank.", rich_help_panel=_SEARCH)
]
MaxOverlap = Annotated[
    float | None,
    Option(
        "--max-overlap", help="Largest share of blocks that two selections have in common.", rich_help_panel=_SEARCH
    ),
]
Include = Annotated[
    list[str] | None, Option("--include", metavar="PATTERN", help="Replace only these blocks.", rich_help_panel=_SEARCH)
]
Exclude = Annotated[
    list[str] | None, Option("--exclude", metavar="PATTERN", help="Leave these blocks alone.", rich_help_panel=_SEARCH)
]
Epochs = Annotated[int | None, Option("--epochs", help="Epochs of fine-tuning; 0 skips it.", rich_help_panel=_SEARCH)]
Seed = Annotated[int | None, Option("--seed", help="Decides everything that is random.", rich_help_panel=_SEARCH)]
Device = Annotated[
    str | None, Option("--device", help="Where training runs: auto, cpu, cuda, cuda:1.", rich_help_panel=_SEARCH)
]
Executor = Annotated[
    str | None, Option("--executor", help="Where candidates are trained: local or ray.", rich_help_panel=_SEARCH)
]
Workers = Annotated[
    int | None, Option("--workers", help="How many train candidates at a time.", rich_help_panel=_SEARCH)
]
Memory = Annotated[
    int | None,
    Option(
        "--memory", metavar="MIB", help="Bound on what candidates in training take together.", rich_help_panel=_SEARCH
    ),
]
Settings = Annotated[
    list[str] | None,
    Option(
        "--set", metavar="PASS.OPTION=VALUE", help="An option of one pass: finetune.epochs=5.", rich_help_panel=_SEARCH
    ),
]
ConfigFile = Annotated[
    str | None,
    Option("--config", metavar="FILE", help="TOML file that says what flags say; flags win.", rich_help_panel=_RUN),
]
SaveConfig = Annotated[
    str | None,
    Option("--save-config", metavar="FILE", help="Write the configuration of this command.", rich_help_panel=_RUN),
]
Resume = Annotated[bool, Option("--resume", help="Insist that the run exists already.", rich_help_panel=_RUN)]
Kit = Annotated[
    str | None,
    Option(
        "--kit", metavar="FILE", help="Write a kit (zip) to measure on a device without hant.", rich_help_panel=_RUN
    ),
]
Import = Annotated[
    str | None,
    Option(
        "--import",
        metavar="FILE",
        help="Latencies measured elsewhere: the result.json of a kit, or a table.",
        rich_help_panel=_RUN,
    ),
]
DryRun = Annotated[bool, Option("--dry-run", help="Say what would be done and write nothing.", rich_help_panel=_RUN)]
AsJson = Annotated[
    bool, Option("--json", help="Result as JSON on standard output, all else on standard error.", rich_help_panel=_RUN)
]
Verbose = Annotated[
    int, Option("--verbose", "-v", count=True, help="Say more; -vv shows tracebacks.", rich_help_panel=_RUN)
]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors and the result.", rich_help_panel=_RUN)]
ShowGraph = Annotated[bool, Option("--graph", help="Show the whole graph as text.", rich_help_panel=_RUN)]
Picture = Annotated[
    str | None, Option("--svg", metavar="FILE", help="Draw the blocks into an SVG file.", rich_help_panel=_RUN)
]
OpInput = Annotated[str, Option("--input", metavar="SHAPE", help="Shape that goes in: 16x32x32.")]
OpOutput = Annotated[
    str | None, Option("--output", "-o", metavar="SHAPE", help="Shape that comes out; as the input if left out.")
]
