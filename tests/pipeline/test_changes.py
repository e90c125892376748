from __future__ import annotations

import shlex

import pytest
from hant.transformer.pipeline.changes import flags_of


@pytest.mark.parametrize(
    ("stored", "new", "flags"),
    [
        ("seed = 1", "seed = 1", []),
        ('budget = "0.45"', 'budget = "0.3"', ["--budget", "0.3"]),
        ("", 'limits = ["params=50%", "macs=3M"]', ["--limit", "params=50%", "--limit", "macs=3M"]),
        ("solutions = 3", "solutions = 4\nmax_drop = 1.5", ["--solutions", "4", "--max-drop", "1.5"]),
        ("", "trust_model = true", ["--trust-model"]),
        ("", "[arch_kwargs]\nwidth = 2", ["--arch-kwargs", '{"width": 2}']),
        ('model = "a.pt"\noutput = "a"', 'model = "b.pt"\noutput = "b"', []),
        ("[passes.finetune]\nema = 0.0", "[passes.finetune]\nema = 0.5", ["--set", "finetune.ema=0.5"]),
        ("", '[passes.rank]\nrace = "off"', ["--set", "rank.race=off"]),
        ("", "[passes.rank]\nrecalibrate = true", ["--set", "rank.recalibrate=true"]),
        ("not TOML", "seed = 1", []),
    ],
)
def test_a_change_is_told_in_flags(stored: str, new: str, flags: list[str]) -> None:
    assert shlex.split(flags_of(stored, new)) == flags


def test_what_was_not_said_and_is_as_usual_has_no_flag() -> None:
    stored, usual = "[passes.finetune]\nema = 0.5", {"rank": {"race": "off"}}
    assert flags_of(stored, stored + '\n[passes.rank]\nrace = "off"', usual) == ""
    assert shlex.split(flags_of(stored, '[passes.rank]\nrace = "certain"', usual)) == ["--set", "rank.race=certain"]
    back = '[passes.rank]\nrace = "off"'  # what was said counts
    assert shlex.split(flags_of('[passes.rank]\nrace = "certain"', back, usual)) == ["--set", "rank.race=off"]
