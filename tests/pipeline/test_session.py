from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hant.passes.ranking.records import RankRecord
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.pass_ import Pass, PassResult
from hant.transformer.errors import StorageError, UsageError
from hant.transformer.pipeline.config import FILE, make, read
from hant.transformer.pipeline.pipeline import Pipeline
from hant.transformer.pipeline.session import Materials, load_materials, open_run, save_config, training_device


def test_devices() -> None:
    assert training_device("cpu") == torch.device("cpu")
    assert training_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UsageError, match="unknown device 'gpu'; expected auto, cpu, cuda or cuda:1"):
        training_device("gpu")
    with pytest.raises(UsageError, match=r"device 'cuda:99' is not on this machine .* give --device cpu"):
        training_device("cuda:99")


def test_a_configuration_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    config = make({"budget": 0.5, "seed": 3})
    save_config(config, tmp_path / "deep" / "c.toml")
    assert make(read(tmp_path / "deep" / "c.toml")) == config
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*file/c.toml: "):
        save_config(config, tmp_path / "file" / "c.toml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model": "<Sequential>"},
            "gave its model <Sequential> as an object; go on from that program",
        ),
        ({"arch": "net.py:net"}, "net.py"),
        ({}, "no model given"),
    ],
)
def test_a_model_that_cannot_be_had_is_told(values: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_materials(make(values))


def test_the_target_takes_batch_size_and_precision() -> None:
    from torch import nn

    config = make({"batch_size": 4, "precision": "fp16", "input_shape": "3x8x8", "pool": "teacher"})
    materials = load_materials(config, model=nn.Conv2d(3, 4, 3))
    assert (materials.target.batch_size, materials.target.precision) == (4, "fp16")
    assert materials.example_inputs[0].shape == (2, 3, 8, 8)
    assert [spec.name for spec in materials.pool] == ["teacher"]
    others = load_materials(config.model_copy(update={"pool": "identity,cb_res_3x3"}), model=nn.Conv2d(3, 4, 3))
    assert [spec.name for spec in others.pool] == ["teacher", "identity", "cb_res_3x3"]  # a block may stay as it is
    with pytest.raises(UsageError, match="the input shape is not known; give --input-shape such as 3x224x224"):
        load_materials(make({}), model=nn.Conv2d(3, 4, 3))


@dataclass(frozen=True)
class Loss(Pass):
    name: ClassVar[str] = "loss"
    ensures: ClassVar[tuple[str, ...]] = ("rank",)
    value: float = 0.0

    def run(self, context: Context) -> PassResult:
        if self.value < 0:
            raise UsageError("a loss is not negative")
        context.store.put("0", RankRecord(index=0, loss=self.value, accuracy=0.0, samples=1))
        return PassResult()


@dataclass(frozen=True)
class Tell(Pass):
    name: ClassVar[str] = "tell"
    requires: ClassVar[tuple[str, ...]] = ("rank",)

    def run(self, context: Context) -> PassResult:
        return PassResult()


def work(context: Context, root: Path, value: float, only: tuple[str, ...] | None = None) -> str:
    """Run the passes as a command does that sets ``loss.value``; return the configuration that the run then has."""
    materials = Materials(context.model, context.example_inputs, context.target, context.backend, context.pool)
    pipeline = Pipeline([Loss(value), Tell()])
    config = make({"passes": {"loss": {"value": value}}})
    try:
        with open_run(config, root, materials, pipeline, only=only) as opened:
            pipeline.run(opened, only=only)
    except UsageError as error:
        return f"{error}: {read(root / FILE)['passes']['loss']['value']}"
    return str(read(root / FILE)["passes"]["loss"]["value"])


def test_a_command_that_fails_leaves_the_configuration_of_a_finished_run(context: Context, tmp_path: Path) -> None:
    root = tmp_path / "other"
    assert work(context, root, 1.0) == "1.0"
    assert work(context, root, 2.0, ("tell",)) == (
        "tell needs rank, which is unfinished or made with other options; run pass loss first: "
        f"hant-opt loss {root} --set loss.value=2.0 (value 1.0 then, 2.0 now): 1.0"
    )
    assert work(context, root, -1.0) == "a loss is not negative: 1.0"
    assert work(context, root, 1.0, ("tell",)) == "1.0"
    assert work(context, root, 2.0) == "2.0"


def test_a_run_that_has_no_configuration_yet_gets_one_whatever_happens(context: Context, tmp_path: Path) -> None:
    assert work(context, tmp_path / "new", -1.0) == "a loss is not negative: -1.0"
