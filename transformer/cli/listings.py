"""What there is to choose from: targets and operations."""

from __future__ import annotations

from rich.console import Console

from ...backends.targets.load import list_targets
from ...op_library.cost import macs, parameters
from ...op_library.op_spec import OpSpec
from ...op_library.pools import pool as named_pool
from ...op_library.tensor_spec import Layout, TensorSpec
from ..contracts.target import Target
from ..errors import HantError
from ..pipeline.shapes import parse_shape
from ..plugins import load_plugin
from .tables import number, write_line, write_table
from .terminal import write_json


def run_targets(as_json: bool) -> int:
    """List every target with whether it can be measured here."""
    rows = [(target, unavailable(target)) for target in list_targets()]
    if as_json:
        plain = [target.model_dump(mode="json") | {"unavailable": reason} for target, reason in rows]
        write_json(plain)
        return 0
    heads = ("target", "backend", "device", "precision", "batch", "here", "description")
    cells = [
        (
            t.name,
            t.backend,
            t.device,
            t.precision,
            str(t.batch_size),
            "yes" if why is None else f"no: {why}",
            t.description,
        )
        for t, why in rows
    ]
    write_table(Console(), heads, cells)
    return 0


def unavailable(target: Target) -> str | None:
    """Return why the target cannot be measured on this machine; None if it can."""
    try:
        reason: str | None = load_plugin("hant.backends", target.backend)().unavailable(target)
    except HantError as error:
        return str(error)
    return reason


def run_ops(input: str, output: str | None, pool: str, as_json: bool) -> int:
    """List the operations of a pool between two shapes."""
    entry, leave = spec(input), spec(output or input)
    rows = [describe(operation, entry, leave) for operation in named_pool(pool)]
    if as_json:
        write_json({"input": str(entry), "output": str(leave), "operations": rows})
        return 0
    heads = ("operation", "family", "fits", "MACs", "params")
    cells = [
        (
            str(row["operation"]),
            str(row["family"]),
            "yes" if row["fits"] else f"no: {row['reason']}",
            number(int(str(row["macs"]))) if row["macs"] is not None else "",
            number(int(str(row["parameters"]))) if row["parameters"] is not None else "",
        )
        for row in rows
    ]
    console = Console()
    write_table(console, heads, cells, right=2)
    write_line(console, f"{sum(bool(row['fits']) for row in rows)} of {len(rows)} operations fit {entry} -> {leave}")
    return 0


def describe(operation: OpSpec, entry: TensorSpec, leave: TensorSpec) -> dict[str, object]:
    """Return name, family, fit, reason, MACs and parameters of an operation."""
    reason = operation.unfit(entry, leave)
    row: dict[str, object] = {
        "operation": operation.name,
        "family": operation.family,
        "fits": reason is None,
        "reason": reason or "",
        "macs": None,
        "parameters": None,
    }
    # The teacher's own operation is a different module in every block: it has no cost of its own.
    if reason is None and operation.name != "teacher":
        module = operation.build(entry, leave)
        row |= {"macs": macs(module, entry), "parameters": parameters(module)}
    return row


def spec(text: str) -> TensorSpec:
    """Return the tensor of a shape: CxHxW is a feature map, LxC a sequence of tokens, C a vector."""
    shape = parse_shape(text)
    layout = {3: Layout.NCHW, 2: Layout.TOKENS}.get(len(shape), Layout.FLAT)
    return TensorSpec(shape, layout=layout)
