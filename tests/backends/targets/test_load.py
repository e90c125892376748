"""Target files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hant.backends.targets.load import list_targets, load_target
from hant.transformer.errors import HantError
from hant.transformer.plugins import registered


def test_the_default_target_is_one_thread_and_one_image() -> None:
    target = load_target("cpu-ort")
    assert (target.backend, target.batch_size, target.options["threads"]) == ("onnxruntime", 1, 1)


def test_every_shipped_target_reads_and_says_what_it_is() -> None:
    names = [target.name for target in list_targets()]
    assert names == sorted(set(names))
    for target in list_targets():
        assert target == load_target(target.name)
        assert target.description


def test_a_users_target_is_read_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nbackend = "onnxruntime"\n[options]\nthreads = 4\n')
    assert load_target(path) == load_target(str(path))
    assert load_target(path).options == {"threads": 4}


def test_the_fingerprint_depends_on_what_changes_a_latency_only() -> None:
    target = load_target("cpu-ort")
    same = target.model_copy(update={"name": "x", "description": "y", "facts": {"gflops": 1}})
    assert same.fingerprint == target.fingerprint
    for change in ({"batch_size": 2}, {"precision": "fp16"}, {"options": {"threads": 2}}, {"device": "cuda"}):
        assert target.model_copy(update=change).fingerprint != target.fingerprint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot read target file .*mine\.toml: No such file or directory; give a name or a TOML file"),
        ("name = ", r"target file .*mine\.toml is not TOML: .*"),
        ('backend = "onnxruntime"', r"target file .*mine\.toml: name: Field required; see cpu-ort\.toml"),
        ('name = "x"\nbackend = "y"\nbatch_size = 0', r"batch_size: Input should be greater than or equal to 1"),
        ('name = "x"\nbackend = "y"\nbach = 1', r"bach: Extra inputs are not permitted"),
        (b"\xff\xfe", r"cannot read target file .*mine\.toml: not UTF-8 text"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(HantError, match=message) as caught:
        load_target(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_brings_the_nearest() -> None:
    with pytest.raises(HantError, match=r"unknown target 'cpu-otr'; did you mean 'cpu-ort'"):
        load_target("cpu-otr")


def test_backends_of_shipped_targets_are_registered() -> None:
    assert {target.backend for target in list_targets()} <= set(registered("hant.backends"))
