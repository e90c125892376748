"""``hant-opt inspect``: the blocks of a network and why the rest is in no block; of a run, its students too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ...passes.capturing.inspection import FILE, Inspection, inspect_graph
from ...passes.reporting.schema import StudentReport
from ...passes.reporting.students import students
from ..errors import StorageError
from ..ir.block import Diagnostic
from ..ir.graph import Graph
from ..runs.follower import FollowerStore
from ..tools.files import write_atomically
from ..tools.reading import parse_model
from .opening import opened
from .options import InspectCommand
from .picture import picture
from .resolve import resolve
from .streams import result_only
from .tables import number, write_line, write_table
from .terminal import write_json


def run_inspect(command: InspectCommand) -> int:
    """Print the blocks of a network; those of a run as they were captured, with nothing loaded where that suffices."""
    job = resolve(command.given)
    told = None if job.changed or command.graph or command.svg else known(job.root)
    console = Console()
    if told is None:
        with result_only(), opened(command, job, scratch=True) as (context, pipeline):
            graph = pipeline.run(context, only=("capture",)).teacher
        told = inspect_graph(graph)
        if command.svg:
            save_picture(graph, Path(command.svg))
        if command.graph and not command.as_json:
            write_line(console, str(graph))
    made = students_of(job.root) if job.from_run else []
    if command.as_json:
        listed = {"students": [row.model_dump(mode="json") for row in made]} if job.from_run else {}
        write_json(told.model_dump(mode="json", by_alias=True) | listed)
    else:
        write_blocks(told, console)
        write_students(made, console)
    return 0


def students_of(root: Path) -> list[StudentReport]:
    """Return the students of a run, also while another process has it open; none where nothing was done in it."""
    if not (root / "run.sqlite").is_file():
        return []
    with FollowerStore(root) as store:
        return students(store)


def write_students(made: Sequence[StudentReport], console: Console) -> None:
    """Print what is asked of each student and what came out."""
    if made:
        write_line(console, "")
        write_table(
            console, ("student", "target", "budget", "student ms", "ratio", "accuracy"), list(map(_made, made)), 3
        )


def _made(row: StudentReport) -> tuple[str, ...]:
    if row.ratio is None or row.accuracy is None:
        return (row.name, row.target, row.budget, "not verified", "", "")
    mark = "~" if row.estimated else ""
    return (
        row.name,
        row.target,
        row.budget,
        f"{mark}{row.student_ms:.4g}",
        f"{mark}{row.ratio:.3f}",
        row.metric.text(row.accuracy),
    )


def known(root: Path) -> Inspection | None:
    """Return what a run says of its network; None if it says nothing.

    Raises:
        LoadError: what it says is damaged.
    """
    path = root / FILE
    if not path.is_file():
        return None
    return parse_model(path.read_bytes(), Inspection, f"{path} is damaged", "delete it, and it is made again")


def write_blocks(told: Inspection, console: Console) -> None:
    """Print blocks, coverage and diagnostics."""
    heads = ("block", "kind", "class", "input", "output", "identity", "replace", "MACs", "params", "share")
    rows = [
        (
            row.name,
            row.kind,
            row.class_name,
            row.input,
            row.output,
            "yes" if row.identity else "no",
            "yes" if row.replaceable else "no",
            number(row.macs),
            number(row.parameters),
            f"{100 * row.share:.1f} %",
        )
        for row in told.blocks
    ]
    write_table(console, heads, rows, right=3)
    cover = {"macs": 0.0, "parameters": 0.0, "all": 0.0, "trunk": 0.0, "largest": 0.0, **told.coverage}
    largest = max(told.blocks, key=lambda block: block.macs, default=None)
    share = f"; the largest, {largest.name}, holds {100 * cover['largest']:.1f} %" if largest is not None else ""
    write_line(
        console,
        f"all blocks hold {100 * cover['all']:.1f} % of the MACs, the trunk's {100 * cover['trunk']:.1f} %{share}",
    )
    write_line(
        console,
        f"{sum(block.replaceable for block in told.blocks)} replaceable blocks of {len(told.blocks)} hold "
        f"{100 * cover['macs']:.1f} % of {number(told.macs)} MACs and {100 * cover['parameters']:.1f} % of "
        f"{number(told.parameters)} parameters",
    )
    for item in told.diagnostics:
        write_line(console, f"note: {Diagnostic(item.where, item.reason, item.source)}")


def save_picture(graph: Graph, path: Path) -> None:
    """Draw the blocks into an SVG file.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        write_atomically(path, picture(graph, type(graph.module).__name__))
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; give another --svg") from error
