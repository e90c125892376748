"""A run of the real command that stands right before fine-tuning: the digits teacher with two blocks left out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hant.passes.finetuning.finetune import FinetunePass
from hant.passes.finetuning.records import AlignmentRecord
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.ranking.records import WinnerRecord
from hant.transformer.contracts.context import Context
from hant.transformer.pipeline.build import build_pipeline
from hant.transformer.pipeline.config import make
from hant.transformer.pipeline.pipeline import Pipeline
from hant.transformer.pipeline.session import load_materials, open_run
from hant.transformer.runs.records import PassRecord

ROOT = Path(__file__).parents[2]
DATA = """
import hant, torch
from hant.transformer.data.digits import digits

def load():
    whole = digits((1, 32, 32))
    cut = lambda part, count: torch.utils.data.Subset(part, range(count))
    return hant.Data(cut(whole.train, 120), cut(whole.test, 20), "few digits", whole.augment)
"""


def prepare(root: Path) -> None:
    """Make the run at ``root``; its data are 120 digits, its winner leaves out two blocks."""
    (root.parent / "few.py").write_text(DATA)
    values = {
        "model": str(ROOT / "examples" / "digits" / "teacher.pt"),
        "data": f"{root.parent / 'few.py'}:load",
        "pool": "teacher,identity",
        "budget": "0.45",
        "device": "cpu",
    }
    with open_before(root, values):
        pass


@contextmanager
def open_before(root: Path, values: dict[str, Any]) -> Iterator[tuple[Context, FinetunePass]]:
    """Yield a run of the configuration that stands right before fine-tuning, and the pass."""
    config = make(values)
    pipeline = build_pipeline(config)
    with open_run(config, root, load_materials(config), pipeline) as context:
        context = pipeline.run(context, only=("capture",))
        _finish(pipeline, context)
        yield context, next(stage for stage in pipeline.passes if isinstance(stage, FinetunePass))


def _finish(pipeline: Pipeline, context: Context) -> None:
    store, prints = context.store, pipeline.fingerprints(context)
    choice = dict.fromkeys((block.name for block in context.teacher.replaceable), "teacher")
    free = [block.name for block in context.teacher.replaceable if block.identity_allowed]
    choice |= dict.fromkeys(free[:2], "identity")
    for block, operation in choice.items():
        record = CandidateRecord(block=block, operation=operation, state="ready")
        store.put(f"{block}/{operation}", record)
    winner = WinnerRecord(index=0, choice=choice, objective=0, bound=0, predicted_ms=1, measured_ms=1, teacher_ms=2)
    store.put("winner", winner)
    alignment = AlignmentRecord(file="", choice=choice, start="another", recipe="", epochs=0, held_out_accuracy=0)
    store.put("alignment", alignment)  # of another start: fine-tuning takes the student as it is
    for name in pipeline.names[1 : pipeline.names.index("finetune")]:
        store.put(name, PassRecord(fingerprint=prints[name], options={}, seconds=0.0))


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
