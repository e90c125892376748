from __future__ import annotations

import ast
from pathlib import Path

import hant.passes
import pytest
from hant.transformer.contracts.pass_ import Pass
from hant.transformer.plugins import registered


def test_every_pass_has_its_name_in_the_package() -> None:
    own = [point for point in registered("hant.passes").values() if point.module.startswith("hant.passes.")]
    assert {"SelectPass", "ReinforcePass", "KitPass"} <= {point.attr for point in own} <= set(dir(hant.passes))
    for point in own:
        found = getattr(hant.passes, point.attr)
        assert issubclass(found, Pass)
        assert found is point.load()


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(hant.passes.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    points = registered("hant.passes").values()
    assert told == {point.attr for point in points if point.module.startswith("hant.passes.")}


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match=r"module 'hant\.passes' has no attribute 'SelectPas'"):
        _ = hant.passes.SelectPas
