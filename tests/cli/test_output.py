"""What programs read: with ``--json`` standard output is one document, and ``--quiet`` says nothing else.

One process runs all verbs, since each start takes seconds; it marks the ends of their outputs, whoever wrote them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN_ALL = """
import json, os, sys
from hant.transformer.cli.main import main

for words in json.loads(sys.argv[1]):
    code = main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(1, f"{chr(0)}{words[0]} {code}{chr(0)}".encode())
    os.write(2, f"{chr(0)}{words[0]}{chr(0)}".encode())
"""
JOB = (
    *("net.safetensors", "--arch", "net.py:net", "--data", "net.py:data", "--target", "./quick.toml"),
    *(
        "--budget",
        "1",
        "--pool",
        "teacher,identity,cb_res_3x3",
        "--epochs",
        "1",
        "--set",
        "align.epochs=1",
        "-o",
        "run",
    ),
)
VERBS = (
    ("targets",),
    ("ops", "--input", "8x12x12", "--pool", "fast"),
    ("inspect", *JOB[:5]),
    ("optimize", *JOB, "--dry-run"),
    *((verb, *JOB) for verb in ("profile", "pretrain", "score", "select", "search", "rank", "align")),
    *((verb, *JOB) for verb in ("finetune", "export", "verify")),
    ("report", "run"),
    ("pareto", "run", "--budgets", "1"),
    ("apply", "run", "figures"),
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, network_files: Path) -> dict[str, tuple[int, str, str]]:
    """Of each verb: exit code, standard output, standard error."""
    commands = [[*words, "--json", "--quiet"] for words in VERBS]
    place = tmp_path_factory.mktemp("output")
    for file in network_files.iterdir():
        if file.is_file():
            (place / file.name).write_bytes(file.read_bytes())
    words = [sys.executable, "-c", RUN_ALL, json.dumps(commands)]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, check=True)
    out, err = done.stdout.split("\0"), done.stderr.split("\0")
    found = {}
    for text, end, said in zip(out[::2], out[1::2], err[::2], strict=False):
        verb, code = end.split()
        found[verb] = (int(code), text, said)
    return found


@pytest.mark.parametrize("verb", [words[0] for words in VERBS])
def test_standard_output_is_one_document_and_quiet_is_quiet(
    verb: str, outputs: dict[str, tuple[int, str, str]]
) -> None:
    code, out, err = outputs[verb]
    assert code in (0, 4), err  # a busy machine may not be able to verify; that is said in one line
    json.loads(out)
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == (code == 4), err
    assert all(line.startswith("hant-opt: error: ") for line in lines)
