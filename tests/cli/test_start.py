from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HANT = Path(sys.executable).with_name("hant-opt")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["optimize", "--help"], ["ops", "--help"], []])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from hant.transformer.cli.main import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'onnx', 'onnxruntime', 'sklearn'} & set(sys.modules);"
        "sys.exit(f'{heavy} imported' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("hant-opt 0" if words == ["--version"] else "Usage: hant-opt") in done.stdout


def test_the_installed_command_starts() -> None:
    done = subprocess.run([HANT, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("hant-opt ")


def test_output_that_nobody_reads_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {HANT} ops --input 16x8x8 --pool hant-197 | head -1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "error" not in done.stderr
    assert "Traceback" not in done.stderr
