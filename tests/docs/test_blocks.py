"""Every block of code that a user may copy from the documentation is run as it stands there.

A comment right above a block says what else holds, each on a line of its own::

    <!-- test
    slow
    given NAME          the names of given/NAME.py, or `run`: a finished run runs/model
    `text` -> `other`   a setting that is replaced, to be short or to name what is here
    then CODE           is run after the block: Python, or the targets of a makefile
    -->

or ``<!-- test: skip REASON -->`` where a block cannot be run. Benches stop when their arguments are read.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
"""Many blocks are whole jobs: together they take longer than all quick tests."""
ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- test:?\s(?P<marks>(?:(?!-->).)*)-->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
REPLACED = re.compile(r"`(.*)` -> `(.*)`")


@dataclass(frozen=True)
class Block:
    """A block with what the comment above it says."""

    where: str
    language: str
    code: str
    skip: str = ""
    slow: bool = False
    given: tuple[str, ...] = ()
    then: str = ""


def blocks(path: Path) -> list[Block]:
    text = path.read_text()
    return [
        read(f"{path.name}:{text.count(chr(10), 0, found.start('language')) + 1}", **found.groupdict())
        for found in BLOCK.finditer(text)
    ]


def read(where: str, marks: str | None, language: str, code: str) -> Block:
    facts: dict[str, Any] = {"given": ()}
    for line in (marks or "").strip().splitlines():
        word, _, rest = line.strip().partition(" ")
        replaced = REPLACED.fullmatch(line.strip())
        if replaced is not None:
            assert replaced[1] in code, f"{where}: there is no {replaced[1]!r} to replace"
            code = code.replace(replaced[1], replaced[2])
        elif word == "given":
            facts["given"] += (rest,)
        elif word in ("skip", "then"):
            assert rest, f"{where}: {word} what?"
            facts[word] = rest
        else:
            assert line.strip() == "slow", f"{where}: cannot read {line!r}"
            facts["slow"] = True
    return Block(where, language, code, **facts)


ALL = [block for page in PAGES for block in blocks(page)]
RUN = [block for block in ALL if not block.skip]


def test_no_block_is_overlooked() -> None:
    for page in PAGES:
        assert 2 * len(blocks(page)) == len(re.findall(r"^ *```", page.read_text(), re.MULTILINE)), page


@pytest.mark.parametrize(
    "block",
    [pytest.param(block, id=block.where, marks=[pytest.mark.slow] if block.slow else []) for block in RUN],
)
def test_a_block_runs(
    block: Block, tmp_path: Path, shell: dict[str, str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "work"
    shutil.copytree(request.getfixturevalue("finished" if "run" in block.given else "workplace"), place, symlinks=True)
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    kinds = {"python": python, "toml": toml, "": bash, "console": console, "make": makefile, "yaml": steps}
    assert block.language in kinds, f"{block.where}: nobody knows how to run {block.language}"
    kinds[block.language](block, place, shell)


def python(block: Block, place: Path, shell: dict[str, str]) -> None:
    names: dict[str, Any] = {"__name__": "block"}
    for name in block.given:
        if name != "run":
            exec((Path(__file__).parent / "given" / f"{name}.py").read_text(), names)
    exec(compile(block.code, block.where, "exec", dont_inherit=True), names)
    exec(block.then, names)


def toml(block: Block, place: Path, shell: dict[str, str]) -> None:
    """A pool, or a configuration."""
    import hant
    from hant.transformer.pipeline.build import build_pipeline
    from hant.transformer.pipeline.config import make

    (place / "block.toml").write_text(block.code)
    values = tomllib.loads(block.code)
    if "operations" in values:
        assert len(hant.pool("block.toml")) > 1
        return
    made = {stage.name: stage for stage in build_pipeline(make(values, block.where)).passes}
    for name, table in values.get("passes", {}).items():
        for option, value in table.items():
            found = getattr(made[name], option)
            assert found == (tuple(value) if isinstance(value, list) else value)


def bash(block: Block, place: Path, shell: dict[str, str]) -> None:
    run(["bash", "-euo", "pipefail", "-c", block.code], place, shell)


def console(block: Block, place: Path, shell: dict[str, str]) -> None:
    """Lines that begin with ``$``, and those that go on with them."""
    lines = [line[2:] if line.startswith("$ ") else line for line in block.code.splitlines()]
    run(["bash", "-euo", "pipefail", "-c", "\n".join(lines)], place, shell)


def makefile(block: Block, place: Path, shell: dict[str, str]) -> None:
    (place / "Makefile").write_text(block.code)
    run(["make", *block.then.split()], place, shell)


def steps(block: Block, place: Path, shell: dict[str, str]) -> None:
    """The commands of a pipeline's steps."""
    yaml = pytest.importorskip("yaml")
    summary = place / "summary.md"
    for step in yaml.safe_load(block.code):
        if "run" in step:
            run(["bash", "-e", "-c", step["run"]], place, {**shell, "GITHUB_STEP_SUMMARY": str(summary)})
        else:
            assert all(list(place.glob(pattern)) for pattern in step["with"]["path"].split())
    assert summary.stat().st_size > 0


def run(words: list[str], place: Path, shell: dict[str, str]) -> None:
    done = subprocess.run(words, cwd=place, env=shell, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_marks_are_read() -> None:
    text = 'a\n<!-- test\nslow\ngiven x\n`"a"` -> `"b"`\nthen f()\n-->\n```python\ng("a")\n```\n'
    (found,) = BLOCK.finditer(text)
    assert read("here", **found.groupdict()) == Block("here", "python", 'g("b")\n', "", True, ("x",), "f()")
    with pytest.raises(AssertionError, match=r"here: there is no 'z' to replace"):
        read("here", "`z` -> `y`", "python", "x")
    with pytest.raises(AssertionError, match=r"here: cannot read 'slwo'"):
        read("here", "slwo", "python", "x")


def test_a_block_that_fails_is_told(tmp_path: Path, shell: dict[str, str]) -> None:
    with pytest.raises(AssertionError, match="No such option: --bugdet"):
        console(Block("here", "console", "$ hant-opt x.pt --bugdet 3\n"), tmp_path, shell)
    words = f"python {ROOT}/tests/bench/latency_stopwatch.py --nosuch 1"
    with pytest.raises(AssertionError, match="unrecognized arguments: --nosuch"):
        bash(Block("here", "", words), tmp_path, shell)
