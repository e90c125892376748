"""Make one self-contained script out of source files of hant that need nothing of hant but each other."""

from __future__ import annotations

import ast
import inspect

from ....transformer.contracts.backend import KitPart
from . import measure

_HEAD = '''"""Measure the networks of this kit on this device.

    python measure.py            in the folder of the unpacked kit
    python measure.py kit.zip    without unpacking it

Needs Python 3.10 or newer and: {needs}. Nothing of hant. Stop it at any time; the same command goes on. The result
is result.json beside the kit.
"""

from __future__ import annotations

import importlib
import sys

if sys.version_info < (3, 10):
    sys.exit("measure.py: error: Python 3.10 or newer is needed")
for _module, _package in {modules}.items():
    try:
        importlib.import_module(_module)
    except ImportError as _error:
        sys.exit(f"measure.py: error: cannot import {{_module}} ({{_error}}); run: pip install '{{_package}}'")
'''
_TAIL = """

if __name__ == "__main__":
    sys.exit(run(Device, take_rounds, sys.argv[1:]))
"""


def script(part: KitPart) -> str:
    """Return the text of ``measure.py``: the runtime's sources, the loop over the groups, and a start."""
    pieces = [alone(source) for source in (*part.sources, inspect.getsource(measure))]
    head = _HEAD.format(needs=", ".join(part.needs.values()), modules=repr(part.needs))
    return head + "".join(f"\n\n{piece}" for piece in pieces) + _TAIL


def alone(source: str) -> str:
    """Return a module's source without what binds it to its neighbours: their imports, future and type-only ones.

    Its docstring becomes a comment.
    """
    lines, tree = source.splitlines(), ast.parse(source)
    for node in tree.body:
        if _binds(node):
            end = node.end_lineno or node.lineno
            lines[node.lineno - 1 : end] = [""] * (end - node.lineno + 1)
    doc = ast.get_docstring(tree) or ""
    body = "\n".join(lines).strip("\n")
    return "\n".join(f"# {line}".rstrip() for line in doc.splitlines()) + f"\n\n{body}\n"


def _binds(node: ast.stmt) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level > 0 or node.module == "__future__"
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
