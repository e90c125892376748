from __future__ import annotations

from pathlib import Path

import hant
import pytest
import torch
from hant.transformer.errors import UsageError
from hant.transformer.tools.wildcards import LONGEST, matches


@pytest.mark.parametrize(
    ("name", "pattern", "is_so"),
    [
        ("layer1.0", "layer1.*", True),
        ("layer1.0", "LAYER1.*", False),
        ("layer1.0", "layer[12].?", True),
        ("layer1.0", "layer1", False),
        ("a" * LONGEST, "a" * LONGEST, True),
    ],
)
def test_names_match_as_in_the_shell(name: str, pattern: str, is_so: bool) -> None:
    assert matches(name, pattern) == is_so


def test_a_pattern_that_would_take_minutes_is_refused_wherever_it_is_read(tmp_path: Path) -> None:
    """Reading 20,000 brackets takes ten seconds, ten times as many a quarter of an hour."""
    endless = "[" * 200_000
    told = rf"pattern '\[+'\.\.\. has 200000 signs; expected at most {LONGEST}"
    with pytest.raises(UsageError, match=told):
        matches("layer1.0", endless)
    file = tmp_path / "pool.toml"
    file.write_text(f'operations = ["teacher", "{endless}"]')
    with pytest.raises(UsageError, match=told):
        hant.pool(file)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.ReLU())
    with pytest.raises(UsageError, match=told):
        hant.trace(network, torch.zeros(1, 3, 8, 8), include=(endless,))
    with pytest.raises(UsageError, match=told):
        hant.trace(network, torch.zeros(1, 3, 8, 8), exclude=(endless,))
