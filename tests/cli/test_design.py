"""What a design would do, before its MasterNet is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hant.transformer.pipeline.default import DESIGN_PASSES


def test_a_dry_run_counts_the_work_and_trains_no_masternet(
    tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(
        *("design", "genet:conv_3x3@8 bl_3x3_r0.5_d1@16/2 conv_1x1@16", "--data", "digits", "--input-shape", "1x8x8"),
        *("--budget", "0.6", "--limit", "params=80%", "--resolutions", "8,6", "--preset", "paper", "-o", "fresh"),
        *("--set", "perturb.kernels=[3]", "--dry-run", "--json"),
    )
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["run_passes"] == list(DESIGN_PASSES)
    assert told["config"]["model"].startswith("genet:conv")
    expected = {item["stage"]: item["what"] for item in told["expected"]}
    # stem and last convolution have 2 and 4 widths; each ratio of the bottleneck its own size and 9 of 11 others
    assert expected["perturb"] == "26 networks x 570 steps of 64 images"
    assert expected["train"].startswith("1 finalists x ")
    assert "master" in expected
    assert "12 networks to time" in expected["superblocks"]
    assert list(tmp_path.iterdir()) == []
