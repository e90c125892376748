from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint, packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
POINTS = [
    (group, name, value) for group, table in PROJECT["project"]["entry-points"].items() for name, value in table.items()
]


def test_packages_in_pyproject_are_those_on_disk() -> None:
    folders = ("op_library", "transformer", "backends", "passes")
    found = {path.parent for folder in folders for path in (ROOT / folder).rglob("*.py")}
    found |= {parent for path in found for parent in path.parents if parent != ROOT and parent.is_relative_to(ROOT)}
    names = {"hant", *(".".join(("hant", *path.relative_to(ROOT).parts)) for path in found)}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == names


def test_data_files_beside_the_code_are_shipped() -> None:
    shipped = {path for pattern in PROJECT["tool"]["setuptools"]["package-data"]["hant"] for path in ROOT.glob(pattern)}
    folders = ("op_library", "transformer", "backends", "passes")
    found = {path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()}
    assert {path for path in found if path.suffix not in (".py", ".pyc")} <= shipped


def test_no_other_module_lies_at_the_root() -> None:
    assert [path.name for path in ROOT.glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize(
    ("module", "besides"),
    [
        ("hant", {"pydantic"}),
        ("hant.passes", {"pydantic"}),
        ("hant.transformer.cli.main", {"pydantic"}),
        ("hant.transformer.cli.app", set()),  # flags are made from pydantic's fields
    ],
)
def test_light_modules_import_nothing_heavy(module: str, besides: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not ({"torch", "numpy", "onnx", "onnxruntime", "pulp", "jinja2"} | besides) & set(loaded)


def test_public_names_are_there_and_listed() -> None:
    import hant

    assert set(hant.__all__) <= set(dir(hant))
    for name in hant.__all__:
        assert getattr(hant, name) is not None
    with pytest.raises(AttributeError, match="module 'hant' has no attribute 'nosuch'"):
        _ = hant.nosuch


@pytest.mark.parametrize(("group", "name", "value"), POINTS, ids=[f"{group}:{name}" for group, name, _ in POINTS])
def test_entry_points_resolve_to_what_bears_their_name(group: str, name: str, value: str) -> None:
    assert EntryPoint(name, value, group).load().name == name


def test_the_default_pipeline_is_registered() -> None:
    from hant.transformer.pipeline.default import DEFAULT_PASSES

    assert set(DEFAULT_PASSES) <= set(PROJECT["project"]["entry-points"]["hant.passes"])


def test_everything_that_is_imported_is_declared() -> None:
    """Also what comes along today because another package needs it: that may end with any release."""
    extras = PROJECT["project"]["optional-dependencies"]
    words = [*PROJECT["project"]["dependencies"], *(word for name in extras if name != "dev" for word in extras[name])]
    declared = {plain(re.split(r"[^A-Za-z0-9_.-]", word, maxsplit=1)[0]) for word in words}
    owners = packages_distributions()
    folders = ("op_library", "transformer", "backends", "passes")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    imported = {name for path in files for name in third_party(path)}
    assert {"torch", "scipy", "markupsafe", "PIL"} <= imported
    undeclared = {name for name in imported if declared.isdisjoint(map(plain, (name, *owners.get(name, ()))))}
    assert undeclared == set()


def plain(name: str) -> str:
    """Return a distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def third_party(path: Path) -> set[str]:
    """Return the first names of the modules that a file imports, without the standard library's and hant's own."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"hant"}
