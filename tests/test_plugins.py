"""Plugins of others are found like ours; two of one name are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hant.transformer.errors import UsageError
from hant.transformer.plugins import load_plugin, registered


def install(place: Path, name: str, points: str) -> None:
    """Lay a package with entry points where Python looks for packages, as an installer does."""
    info = place / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


def ask(place: Path, code: str) -> str:
    code = f"import sys; sys.path.append({str(place)!r})\n" + code
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_a_pass_of_another_package_is_found(tmp_path: Path) -> None:
    install(tmp_path, "other", "[hant.passes]\nprune = other_package:PrunePass\n")
    (tmp_path / "other_package.py").write_text("class PrunePass:\n    name = 'prune'\n")
    code = "from hant.transformer.plugins import load_plugin\nprint(load_plugin('hant.passes', 'prune').name)"
    assert ask(tmp_path, code) == "prune"


def test_two_of_one_name_are_refused_and_both_named(tmp_path: Path) -> None:
    install(tmp_path, "other", "[hant.passes]\nselect = other_package:SelectPass\n")
    code = (
        "from hant.transformer.plugins import registered\nfrom hant.transformer.errors import UsageError\n"
        "try: registered('hant.passes')\nexcept UsageError as error: print(error)"
    )
    assert ask(tmp_path, code) == (
        "two plugins of group hant.passes are named 'select': hant.passes.selecting.select:SelectPass and "
        "other_package:SelectPass; uninstall one of the packages"
    )


@pytest.mark.parametrize(
    ("group", "name", "message"),
    [
        ("hant.passes", "selct", "^unknown pass 'selct'; did you mean 'select'"),
        ("hant.backends", "onxruntime", "^unknown backend 'onxruntime'; did you mean 'onnxruntime'"),
        ("hant.op_libraries", "enf", "^unknown op library 'enf'; did you mean 'efn'"),
    ],
)
def test_an_unknown_name_gets_the_nearest(group: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_plugin(group, name)


def test_ours_are_registered_as_anyone_elses() -> None:
    assert {"capture", "select", "report"} <= set(registered("hant.passes"))
