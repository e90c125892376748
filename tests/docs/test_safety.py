"""Every promise of docs/safety.md names the tests that hold it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "safety.md").read_text()


def rows() -> dict[str, list[str]]:
    """Return the paths of tests in the last column, by what comes in."""
    table = PAGE.partition("## What comes in")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    return {cell[0].strip(): re.findall(r"`([^`]+)`", cell[-1]) for cell in cells if cell[0].strip() != "what"}


def test_every_row_names_files_with_tests() -> None:
    assert len(rows()) > 10
    for what, paths in rows().items():
        assert paths, f"{what} names no test"
        for path in paths:
            tree = ast.parse((ROOT / path).read_text())
            names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
            assert any(name.startswith("test_") for name in names), f"{what}: {path} holds no test"
