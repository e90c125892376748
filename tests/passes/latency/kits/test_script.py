"""A kit's script is made of hant's own source files and needs nothing of hant."""

from __future__ import annotations

import ast
from collections import Counter

import pytest
from hant.backends.onnxruntime.backend import OnnxRuntimeBackend
from hant.backends.pytorch.backend import PyTorchBackend
from hant.backends.targets.load import load_target
from hant.backends.tensorrt.backend import TensorRTBackend
from hant.passes.latency.kits.script import alone, script
from hant.transformer.contracts.backend import Backend
from hant.transformer.errors import UsageError

CASES: list[tuple[type[Backend], str, set[str]]] = [
    (OnnxRuntimeBackend, "cpu-ort", {"numpy", "onnxruntime"}),
    (TensorRTBackend, "v100-trt", {"numpy", "tensorrt"}),
    (TensorRTBackend, "rtx4090-trtrtx", {"numpy", "tensorrt_rtx"}),
]


@pytest.mark.parametrize(("backend", "target", "needs"), CASES)
def test_the_script_imports_only_what_it_says(backend: type[Backend], target: str, needs: set[str]) -> None:
    part = backend().kit(load_target(target))
    tree = ast.parse(script(part))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(str(node.module).partition(".")[0])
    standard = {
        *("__future__", "collections", "contextlib", "ctypes", "dataclasses", "gc", "hashlib", "importlib", "json"),
        *("math", "os", "pathlib", "platform", "random", "resource", "statistics", "sys", "time", "types", "typing"),
        *("zipfile", "zlib"),
    }
    assert set(part.needs) == needs
    flavours = {"tensorrt", "tensorrt_rtx"}  # one file serves both and imports the one that is asked for
    assert found - standard <= (needs | flavours if needs & flavours else needs)


@pytest.mark.parametrize(("backend", "target", "needs"), CASES)
def test_no_part_of_the_script_hides_a_name_of_another(backend: type[Backend], target: str, needs: set[str]) -> None:
    tree = ast.parse(script(backend().kit(load_target(target))))
    names = Counter(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef))
    names += Counter(
        name.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for name in node.targets
        if isinstance(name, ast.Name)
    )
    assert [name for name, count in names.items() if count > 1] == []
    assert {"Device", "take_rounds", "run"} <= names.keys()


def test_what_binds_a_module_to_its_neighbours_is_left_out() -> None:
    source = (
        '"""Words.\n\nMore."""\n\nfrom __future__ import annotations\n\nimport os\nfrom typing import TYPE_CHECKING\n\n'
    )
    source += "from ..a import (\n    b,\n)\n\nif TYPE_CHECKING:\n    from .c import d\n\nx = os\n"
    left = alone(source)
    assert left.startswith("# Words.\n#\n# More.\n")
    assert ast.dump(ast.parse(left)) == ast.dump(ast.parse("import os\nfrom typing import TYPE_CHECKING\nx = os"))


def test_the_package_that_still_knows_the_device_is_asked_for() -> None:
    assert TensorRTBackend().kit(load_target("v100-trt")).needs["tensorrt"] == "tensorrt<10.5"


def test_a_runtime_without_a_kit_says_so() -> None:
    with pytest.raises(UsageError, match="target cpu-torch: the backend pytorch has no kit; run hant-opt profile on"):
        PyTorchBackend().kit(load_target("cpu-torch"))
