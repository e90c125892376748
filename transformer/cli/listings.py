"""What there is to choose from: targets and operations."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from itertools import pairwise
from typing import Any

import torch
from rich.console import Console

from ...backends.targets.load import list_targets
from ...op_library.cost import macs, parameters
from ...op_library.op_spec import OpSpec
from ...op_library.pools import pool as named_pool
from ...op_library.tensor_spec import Layout, TensorSpec
from ..contracts.target import Target
from ..errors import HantError, UnfitError
from ..pipeline.config import make
from ..plugins import load_plugin, registered
from ..rewrite.deploy import deploy
from ..tools.shapes import parse_shape
from .options import Command, OpsCommand, OptionsCommand
from .resolve import values
from .streams import result_only
from .tables import number, write_line, write_table
from .terminal import write_json


def run_targets(command: Command) -> int:
    """List every target with whether it can be measured here."""
    with result_only():
        rows = [(target, unavailable(target)) for target in list_targets()]
    if command.as_json:
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


def run_ops(command: OpsCommand) -> int:
    """List the operations of a pool between two shapes."""
    entry, leave = spec(command.input), spec(command.output or command.input)
    with result_only():
        rows = [describe(operation, entry, leave) for operation in named_pool(make(values(command.given)).pool)]
    if command.as_json:
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


def run_options(command: OptionsCommand) -> int:
    """List the options of the named passes, or of all."""
    rows = [row for name in command.names or sorted(registered("hant.passes")) for row in options_of(name)]
    if command.as_json:
        write_json(rows)
        return 0
    heads = ("option", "type", "default", "decides the result", "meaning")
    keys = ("option", "type", "default", "decides", "help")
    write_table(Console(), heads, [tuple(row[key] for key in keys) for row in rows])
    return 0


def options_of(name: str) -> list[dict[str, str]]:
    """Return the options of a pass with type, default and meaning, as its fields declare them."""
    kind = load_plugin("hant.passes", name)
    meanings, hints = field_docs(kind), typing.get_type_hints(kind)
    return [
        {
            "option": f"{name}.{field.name}",
            "type": type_name(hints[field.name]),
            "default": str(default_of(field)),
            "decides": "yes" if field.metadata.get("decides", True) else "no",
            "help": meanings.get(field.name, ""),
        }
        for field in dataclasses.fields(kind)
    ]


def type_name(hint: Any) -> str:
    """Return a type as people write it, without what bounds its values."""
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def default_of(field: dataclasses.Field[Any]) -> Any:
    """Return the default of an option; all of them have one."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def field_docs(kind: type) -> dict[str, str]:
    """Return the docstring below each field of a dataclass and of those it inherits from."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            assert isinstance(tree, ast.ClassDef)
            for field, below in pairwise(tree.body):
                match field, below:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        found[name] = " ".join(text.replace("``", "").split())
    return found


def describe(operation: OpSpec, entry: TensorSpec, leave: TensorSpec) -> dict[str, object]:
    """Return name, family, fit, reason, MACs and parameters of an operation; no memory is taken for its weights."""
    module, reason = None, operation.unfit(entry, leave)
    # What is derived from the block is a different module in every block: it has no cost of its own.
    if reason is None and not operation.derived:
        try:
            with torch.device("meta"):
                module = deploy(operation.build(entry, leave))
        except UnfitError as error:
            reason = str(error)
    row: dict[str, object] = {
        "operation": operation.name,
        "family": operation.family,
        "fits": reason is None,
        "reason": reason or "",
        "macs": None,
        "parameters": None,
    }
    if module is not None:
        row |= {"macs": macs(module, entry), "parameters": parameters(module)}
    return row


def spec(text: str) -> TensorSpec:
    """Return the tensor of a shape: CxHxW is a feature map, LxC a sequence of tokens, C a vector."""
    shape = parse_shape(text)
    layout = {3: Layout.NCHW, 2: Layout.TOKENS}.get(len(shape), Layout.FLAT)
    return TensorSpec(shape, layout=layout)
