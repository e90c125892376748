from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hant.passes.finetuning.finetune import FinetunePass
from hant.passes.finetuning.records import StudentRecord
from hant.passes.networks.placement import placed
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.ranking.records import WinnerRecord
from hant.passes.scoring.records import ScoreRecord
from hant.passes.scoring.score import ScorePass
from hant.transformer.contracts.context import Context
from hant.transformer.runs.store import RunStore
from torch import nn

MakeContext = Callable[..., Context]


class Traveller(nn.Linear):
    """Stays on the CPU, and remembers where it was sent."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.journey: list[str] = []

    def to(self, *args: Any, **kwargs: Any) -> Any:
        self.journey.append(str(args[0]))
        return self


def test_networks_come_back_from_where_they_were_put() -> None:
    first, second = Traveller(), Traveller()
    with placed(torch.device("meta"), first, nn.ReLU(), second):
        assert first.journey == second.journey == ["meta"]
    assert first.journey == second.journey == ["meta", "cpu"]


@pytest.mark.gpu
def test_training_on_a_gpu_gives_what_the_cpu_gives(tmp_path: Path, make_context: MakeContext) -> None:
    found = []
    for device in ("cpu", "cuda"):
        with RunStore(tmp_path / device) as store:
            context = make_context(store, "teacher,identity,cb_res_3x3", device=torch.device(device))
            PretrainPass(epochs=2, batch_size=64).run(context)
            ScorePass().run(context)
            winner = WinnerRecord(
                index=0,
                choice={"one": "identity", "two": "cb_res_3x3", "three": "teacher"},
                objective=0,
                bound=0,
                predicted_ms=1,
                measured_ms=1,
                teacher_ms=2,
            )
            store.put("winner", winner)
            FinetunePass(epochs=2).run(context)
            assert all(parameter.device.type == "cpu" for parameter in context.teacher.network.parameters())
            found.append((store.all(CandidateRecord), store.all(ScoreRecord), store.get(StudentRecord, "student")))
    (candidates, scores, student), (on_gpu, scores_on_gpu, student_on_gpu) = found
    for key, record in candidates.items():
        assert on_gpu[key].nmse == pytest.approx(record.nmse, rel=0.05, abs=1e-6)
        assert scores_on_gpu[key].delta == pytest.approx(scores[key].delta, rel=0.1, abs=0.02)
    assert student is not None
    assert student_on_gpu is not None
    assert student_on_gpu.held_out_accuracy == pytest.approx(student.held_out_accuracy, abs=3)
