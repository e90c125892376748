"""Imports go one way down the floors. Every spelling counts: relative, absolute, inside functions, by name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("op_library", "transformer", "backends", "passes")
FILES = sorted(path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

# Longest match wins. A module may import its own floor and all below it.
FLOORS = {
    "transformer.errors": 0,
    "transformer.plugins": 0,
    "op_library": 1,
    "transformer.ir": 2,
    "transformer.capture": 2,
    "transformer.rewrite": 2,
    "transformer.contracts": 3,
    "backends": 4,
    "passes": 4,
    "transformer.pipeline": 5,
    "transformer.cli": 6,
    "transformer": 0,
    "__version__": 0,
}
# Same floor, but each other's business is none of theirs.
STRANGERS = (("passes", "backends"), ("backends", "passes"))


# These import what the user names: ``--arch package.module:function`` and ``--data package.module:function``.
USERS_CODE = ("transformer/capture/arch.py", "transformer/capture/user_code.py")
UNKNOWN = 99
"""Of a name that is on no floor, such as one of the facade's."""


def floor(module: str) -> int:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        found = FLOORS.get(".".join(parts[:length]))
        if found is not None:
            return found
    return UNKNOWN


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
    own = name_of(path)
    wrong = []
    for line, module in imports(source, path):
        top = (own.split(".")[0], module.split(".")[0])
        if module == "?" and str(path) in USERS_CODE:
            continue
        if floor(module) > floor(own) or top in STRANGERS:
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
        ("passes/x.py", "import hant.backends.stopwatch as s"),
        ("passes/x.py", "def f():\n    import hant.transformer.pipeline"),
        ("passes/x.py", "from importlib import import_module\nimport_module('hant.backends')"),
        ("passes/x.py", "import importlib\nimportlib.import_module('..backends', __package__)"),
        ("passes/x.py", "name = 'x'\n__import__(name)"),
        ("backends/rt/x.py", "from ...passes import select"),
        ("op_library/x.py", "from ..transformer.ir.graph import Graph"),
        ("op_library/x.py", "from ..transformer import ir"),
        ("transformer/ir/x.py", "from ..contracts import store"),
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
        ("passes/x.py", "from ..transformer.contracts.store import RunStore"),
        ("passes/x.py", "import torch, importlib\nimportlib.import_module('torch')"),
        ("op_library/x.py", "from ..transformer.errors import UnfitError"),
        ("op_library/x.py", "from ..transformer import errors"),
        ("transformer/ir/x.py", "from ..rewrite.rewriter import replace_blocks"),
        ("transformer/cli/x.py", "from ...backends.targets.load import load_target"),
    ],
)
def test_right_imports_pass(path: str, source: str) -> None:
    assert violations(source, Path(path)) == []
