from __future__ import annotations

import pytest
from hant.transformer.cli.app import verbs
from hant.transformer.cli.arguments import normalise


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ""),
        ("--help", "--help"),
        ("--version", "--version"),
        ("model.pt --budget 0.45", "optimize model.pt --budget 0.45"),
        ("--config f.toml", "optimize --config f.toml"),
        ("--arch timm:resnet18", "optimize --arch timm:resnet18"),
        ("profile runs/x", "profile runs/x"),
        ("-v profile runs/x", "profile -v runs/x"),
        ("-vv --json profile runs/x", "profile -vv --json runs/x"),
        ("-q model.pt", "optimize -q model.pt"),
        ("m.pt --batch_size 8 --max_overlap=0.7", "optimize m.pt --batch-size 8 --max-overlap=0.7"),
        ("my_model.pt --data my_module:make_data", "optimize my_model.pt --data my_module:make_data"),
        ("m.pt --data=my_module:make_data", "optimize m.pt --data=my_module:make_data"),
        ("optimize -- profile --a_b", "optimize -- profile --a_b"),
    ],
)
def test_normalise(given: str, expected: str) -> None:
    assert normalise(given.split(), verbs()) == expected.split()


def test_the_verbs_of_the_plan_are_there() -> None:
    plan = "optimize inspect profile pretrain score select rank align finetune export verify report targets ops demo"
    assert set(plan.split()) <= set(verbs())
