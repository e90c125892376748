from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hant.transformer.cli.resolve import resolve, values
from hant.transformer.errors import UsageError


def run_at(root: Path, text: str) -> Path:
    root.mkdir(parents=True)
    (root / "config.toml").write_text(text)
    return root


def test_a_model_takes_flags_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('budget = "0.3"\nseed = 4\n[passes.finetune]\nepochs = 3\nrate = 0.1\n')
    job = resolve({"subject": "m/net.pt", "config": str(file), "seed": 5, "settings": ["finetune.epochs=1"]})
    assert (job.config.model, job.config.budget, job.config.seed) == ("m/net.pt", "0.3", 5)
    assert job.config.passes == {"finetune": {"epochs": 1, "rate": 0.1}}
    assert job.root == Path("runs/net-cpu-ort")
    assert not job.from_run


def test_a_run_keeps_its_configuration_and_flags_change_it(tmp_path: Path) -> None:
    root = run_at(tmp_path / "r", 'model = "net.pt"\nbudget = "0.3"\nseed = 4\noutput = "elsewhere"\n')
    job = resolve({"subject": str(root), "budget": "0.5"})
    assert (job.config.model, job.config.budget, job.config.seed) == ("net.pt", "0.5", 4)
    assert job.root == root
    assert job.from_run


def test_a_model_whose_run_exists_does_not_take_the_stored_configuration(tmp_path: Path) -> None:
    root = run_at(tmp_path / "r", "seed = 4\n")
    assert resolve({"subject": "net.pt", "output": str(root)}).config.seed == 0


def test_the_model_may_come_from_the_file_or_the_architecture(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('model = "net.pt"\noutput = "runs/a"\n')
    assert resolve({"config": str(file)}).root == Path("runs/a")
    assert resolve({"arch": "timm:resnet18"}).root == Path("runs/timm_resnet18-cpu-ort")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"subject": "net.pt", "resume": True}, "--resume: there is no run at runs/net-cpu-ort; leave --resume out"),
        ({"subject": "RUN", "output": "other"}, "RUN is a run and --output names another; give the model instead"),
        ({"subject": "m", "arch_kwargs": "{"}, "--arch-kwargs is not JSON: .*; expected JSON such as"),
        ({"subject": "m", "arch_kwargs": "3"}, "--arch-kwargs: expected a JSON object"),
        ({"subject": "m", "settings": ["epochs=3"]}, "--set: cannot read 'epochs=3'; expected PASS.OPTION=VALUE"),
        ({"subject": "m", "batch_size": -1}, "flags: batch_size: input should be greater than or equal to 1"),
    ],
)
def test_wrong_flags_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run_at(tmp_path / "RUN", "seed = 4\n")
    with pytest.raises(UsageError, match=message):
        resolve(flags)


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("0.5", 0.5), ("true", True), ("[1, 2]", [1, 2]), ("fast", "fast"), ('"3"', "3")]
)
def test_settings_are_toml_or_text(text: str, value: object) -> None:
    assert values({"settings": [f"score.some-option={text}"]}) == {"passes": {"score": {"some_option": value}}}
