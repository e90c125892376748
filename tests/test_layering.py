"""Imports go one way down the floors, and never in a circle.

Every spelling counts: relative, absolute, inside functions, by name, for type checkers only.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("op_library", "transformer", "backends", "passes")
FILES = sorted(path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

# Longest match wins. A module may import its own floor and all below it; the order is that of CONTRIBUTING.md.
FLOORS = {
    "__version__": 0,
    "transformer": 0,
    "transformer.errors": 0,
    "transformer.plugins": 1,
    "transformer.tools": 1,
    "op_library": 2,
    "transformer.ir": 3,
    "transformer.rewrite": 4,
    "transformer.files.described": 5,
    "transformer.capture": 6,
    "transformer.files": 7,
    "transformer.contracts": 8,
    "transformer.data": 9,
    "transformer.runs": 10,
    "backends.measuring": 11,
    "backends": 12,
    "passes": 12,
    "transformer.pipeline": 13,
    "transformer.cli": 14,
}
# Same floor, but each other's business is none of theirs.
STRANGERS = {("passes", "backends"), ("backends", "passes")}


# These import what the user names: ``--arch package.module:function`` and ``--data package.module:function``.
USERS_CODE = ("transformer/files/user_code.py",)
UNKNOWN = 99
"""Of a name that is on no floor, such as one of the facade's."""


def room(module: str) -> str:
    """Return the longest name of ``FLOORS`` that ``module`` is in; nothing if it is in none."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in FLOORS), "")


def name_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports(source: str, path: Path) -> list[tuple[int, str]]:
    """Return (line, module of hant) of every import; a test-only ``TYPE_CHECKING`` import counts too."""
    found: list[tuple[int, str]] = []
    package = list(path.parent.parts)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ["hant", *package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__") and node.args:
            first = node.args[0]
            text = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else "hant.?"
            found.append((node.lineno, _absolute(text, package)))
    return [(line, module.removeprefix("hant.")) for line, module in found if module.split(".")[0] == "hant"]


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _absolute(text: str, package: list[str]) -> str:
    level = len(text) - len(text.lstrip("."))
    return ".".join(["hant", *package[: len(package) - level + 1], text[level:]]) if level else text


def violations(source: str, path: Path) -> list[str]:
    own = room(name_of(path))
    wrong = []
    for line, module in imports(source, path):
        there = room(module)
        if module == "?" and str(path) in USERS_CODE:
            continue
        if FLOORS.get(there, UNKNOWN) > FLOORS[own] or (own, there) in STRANGERS:
            wrong.append(f"{path}:{line} imports {module}")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_down(path: Path) -> None:
    assert violations((ROOT / path).read_text(), path) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("passes/x.py", "from ..backends.onnxruntime import backend"),
        ("passes/x.py", "from .. import backends"),
        ("passes/x.py", "from hant.backends import onnxruntime"),
        ("passes/x.py", "import hant.backends.onnx.export as s"),
        ("passes/x.py", "def f():\n    import hant.transformer.pipeline"),
        ("passes/x.py", "from importlib import import_module\nimport_module('hant.backends')"),
        ("passes/x.py", "import importlib\nimportlib.import_module('..backends', __package__)"),
        ("passes/x.py", "name = 'x'\n__import__(name)"),
        ("backends/rt/x.py", "from ...passes import selecting"),
        ("backends/measuring/x.py", "from ..onnx.export import export"),
        ("op_library/x.py", "from ..transformer.ir.graph import Graph"),
        ("op_library/x.py", "from ..transformer import ir"),
        ("transformer/ir/x.py", "from ..rewrite import rewriter"),
        ("transformer/ir/x.py", "from ..contracts import context"),
        ("transformer/capture/x.py", "from ..files.load import load"),
        ("transformer/contracts/x.py", "from ..runs.store import RunStore"),
        ("transformer/data/x.py", "from ..runs.store import RunStore"),
        (
            "transformer/contracts/x.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ...passes import a",
        ),
        ("transformer/pipeline/x.py", "from ..cli import main"),
        ("transformer/errors.py", "from ..op_library import pools"),
        ("passes/x.py", "from .. import Graph"),
        ("passes/x.py", "import hant"),
    ],
)
def test_every_spelling_of_a_wrong_import_is_found(path: str, source: str) -> None:
    assert len(violations(source, Path(path))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("passes/x.py", "from ..transformer.runs.store import RunStore"),
        ("passes/x.py", "from ..backends.measuring.interval import Interval"),
        ("passes/x.py", "import torch, importlib\nimportlib.import_module('torch')"),
        ("op_library/x.py", "from ..transformer.errors import UnfitError"),
        ("op_library/x.py", "from ..transformer import errors"),
        ("transformer/files/x.py", "from ..capture.trace import trace"),
        ("transformer/cli/x.py", "from ...backends.targets.load import load_target"),
    ],
)
def test_right_imports_pass(path: str, source: str) -> None:
    assert violations(source, Path(path)) == []


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Return every largest set of modules that reach each other, each in order of name (Tarjan 1972)."""
    order: dict[str, int] = {}
    least: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = least[module] = len(order)
        stack.append(module)
        for other in sorted(arrows[module]):
            if other not in order:
                visit(other)
                least[module] = min(least[module], least[other])
            elif other in stack:
                least[module] = min(least[module], order[other])
        if least[module] == order[module]:
            place = stack.index(module)
            circle = sorted(stack[place:])
            del stack[place:]
            if len(circle) > 1:
                found.append(circle)

    for module in sorted(arrows):
        if module not in order:
            visit(module)
    return found


def _arrows() -> dict[str, set[str]]:
    modules = {name_of(path) for path in FILES}
    return {name_of(path): set(_targets(path, modules)) - {name_of(path)} for path in FILES}


def _targets(path: Path, modules: set[str]) -> Iterator[str]:
    for _, name in imports((ROOT / path).read_text(), path):
        yield from (known for known in (name, name.rpartition(".")[0]) if known in modules)


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles(_arrows()) == []


def test_circles_are_found() -> None:
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"f"}, "f": {"e"}}
    assert circles(arrows) == [["a", "b", "c"], ["e", "f"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_passes_have_rooms() -> None:
    assert [path.name for path in (ROOT / "passes").glob("*.py")] == ["__init__.py"]
