"""What exporting is given, what it writes, how the files are called, and what is left out with a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import hant
import pytest
import torch
from hant.backends.onnxruntime.backend import OnnxRuntimeBackend
from hant.backends.pytorch.backend import PyTorchBackend
from hant.backends.targets.load import load_target
from hant.passes.delivering.export import CALIBRATION, ExportPass, typical_inputs
from hant.passes.delivering.records import ExportRecord
from hant.passes.finetuning.records import StudentRecord
from hant.transformer.contracts.backend import Backend
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.target import Target
from hant.transformer.data.images import batches
from hant.transformer.data.splits import split
from hant.transformer.pipeline.config import Config
from hant.transformer.pipeline.session import keep
from hant.transformer.runs.store import RunStore
from torch import Tensor, nn


class Unlisted(nn.Module):
    """Calls an operator that ONNX takes and that no network file may name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = torch.ops.aten.relu(self.conv(x))
        return made.mean((2, 3))


def exported(context: Context, teacher: nn.Module) -> ExportRecord:
    graph = hant.trace(teacher.eval(), torch.randn(2, 1, 8, 8))
    context.store.save_tensors("weights.safetensors", graph.network.state_dict())
    choice = {block.name: "teacher" for block in graph.blocks}
    context.store.put(
        "student", StudentRecord(file="weights.safetensors", choice=choice, epochs=0, held_out_accuracy=0.0)
    )
    ExportPass().run(replace(context, model=teacher, graph=graph, example_inputs=(torch.randn(2, 1, 8, 8),)))
    record = context.store.get(ExportRecord, "export")
    assert record is not None
    return record


@pytest.mark.filterwarnings("ignore")
def test_a_network_that_is_no_data_still_has_its_onnx_file(
    make_context: Callable[..., Context], tmp_path: Path
) -> None:
    with RunStore(tmp_path / "run") as store:
        context = make_context(store, "teacher")
        assert not exported(context, nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())).left_out
        assert store.path("student.json").is_file()
        record = exported(context, Unlisted())
        assert {"teacher.onnx", "student.onnx"} <= record.files.keys()
        for name in ("student.safetensors", "student.json"):
            assert "the function aten.relu is not among those that a network file may name" in record.left_out[name]
        assert not store.path("student.safetensors").exists()
        assert not store.path("student.json").exists()


@pytest.mark.parametrize(
    ("backend", "target", "ending"), [(OnnxRuntimeBackend, "cpu-ort", "onnx"), (PyTorchBackend, "cpu-torch", "pt")]
)
def test_the_runtimes_files_are_called_after_what_they_are(
    backend: type[Backend], target: str, ending: str, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    with RunStore(tmp_path / "run") as store:
        context = replace(make_context(store, "teacher"), backend=backend(), target=load_target(target))
        record = exported(context, nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten()))
        names = {f"teacher.{ending}", f"student.{ending}"}
        assert record.files.keys() == {*names, "student.safetensors", "student.json", "student.pt2"}
        assert record.sha256.keys() == record.files.keys()
        assert store.path(f"student.{ending}").read_bytes()[:2] == (b"PK" if ending == "pt" else b"\x08\n")


def test_int8_is_calibrated_on_training_images(make_context: Callable[..., Context], tmp_path: Path) -> None:
    with RunStore(tmp_path / "run") as store:
        context = make_context(store)
        assert typical_inputs(context) is context.example_inputs
        target = context.target.model_copy(update={"precision": "int8"})
        context = replace(context, target=target)
        (images,) = typical_inputs(context)
        assert images.shape == (CALIBRATION, 1, 8, 8)
        fit = {image.numpy().tobytes() for part, _ in batches(split(context.dataset, 0).fit, 256) for image in part}
        assert {image.numpy().tobytes() for image in images} <= fit
        assert torch.equal(images, typical_inputs(context)[0])
        assert typical_inputs(replace(context, data=None)) is context.example_inputs


def test_students_on_one_target_have_the_teachers_file_from_each_other(
    make_context: Callable[..., Context], tmp_path: Path
) -> None:
    written: list[str] = []

    class Counting(PyTorchBackend):
        def lower(
            self, module: nn.Module, inputs: Sequence[Tensor], target: Target, path: Path, dynamic_batch: bool = False
        ) -> None:
            written.append(f"{target.name}/{path.name}")
            super().lower(module, inputs, target, path, dynamic_batch)

    teacher = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten()).eval()
    graph = hant.trace(teacher, torch.randn(2, 1, 8, 8))
    eager = load_target("cpu-torch")
    with RunStore(tmp_path / "run") as store:
        for name, target in (("a", eager), ("b", eager), ("c", eager.model_copy(update={"batch_size": 2}))):
            context = replace(
                make_context(store, "teacher"), model=teacher, graph=graph, backend=Counting(), target=target
            )
            context = replace(context, store=context.store.of(name), example_inputs=(torch.randn(2, 1, 8, 8),))
            keep(context.store, Config(), context.progress)
            digest = context.store.save_tensors("weights.safetensors", graph.network.state_dict())
            choice = {block.name: "teacher" for block in graph.blocks}
            record = StudentRecord(
                file="weights.safetensors", choice=choice, epochs=0, held_out_accuracy=0.0, digest=digest
            )
            context.store.put("student", record)
            ExportPass().run(context)
        files = [store.of(name).path("teacher.pt").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    both = ["cpu-torch/teacher.pt", "cpu-torch/student.pt"]
    assert written == [*both, "cpu-torch/student.pt", *both]
