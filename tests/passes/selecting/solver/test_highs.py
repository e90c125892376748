"""The solver of others says nothing on standard output."""

from __future__ import annotations

import os
import subprocess
import sys

from hant.passes.selecting.solver.highs import no_output

CODE = """
import sys, numpy, hant
problem = hant.SelectionProblem(
    loss=numpy.arange(20.0).reshape(4, 5), cost=numpy.arange(20.0)[::-1].reshape(4, 5), limits=30.0, solutions=3
)
for engine in ("default", "pulp"):
    assert hant.solve(problem, engine)
"""


def test_solving_prints_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_standard_output_is_there_again_afterwards() -> None:
    code = (
        "import os; from hant.passes.selecting.solver.highs import no_output\n"
        "with no_output(): os.write(1, b'lost')\n"
        "os.write(1, b'kept'); os.close(1)\n"
        "with no_output(): pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "kept"
    before = os.fstat(1)
    with no_output():
        pass
    assert os.fstat(1) == before
