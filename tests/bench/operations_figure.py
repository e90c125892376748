"""Speed against accuracy of every operation for three blocks of a real teacher (HANT figure 7).

    python tests/bench/operations_figure.py --run RUN [--data DIR] --figure docs/operations.svg

Takes the pretrained CIFAR-10 network from the folder DIR (default: the variable HANT_DATA). Only the three blocks, at
equal distances through the network, may be replaced: so the ordinary passes time, train and score their operations and
no others. Prints tables in Markdown and draws one panel a block. The same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hant import Pipeline, RunStore, trace
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.candidates.records import OperationRecord
from hant.passes.capturing.capture import CapturePass
from hant.passes.latency.profile import ProfilePass
from hant.passes.latency.records import SlowerRecord
from hant.passes.latency.table import operation_ms
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.reporting.figures.charts import Series, scatter
from hant.passes.scoring.records import ScoreRecord
from hant.passes.scoring.score import ScorePass
from hant.tests.bench.search_cifar10 import ROOT, make_context
from hant.transformer.runs.store import RunStore as Store

COUNT = 3
PANEL = (760, 360)
KINDS = {
    "efn": "efn",
    "efnv2": "efnv2",
    "cb_stack": "cb_stack",
    "cb_bottle": "cb_bottle",
    "conv_cs": "conv_cs",
    "cb_res": "cb_res, repvgg, dbb",
    "repvgg": "cb_res, repvgg, dbb",
    "dbb": "cb_res, repvgg, dbb",
    "vit": "vit, bot_trans, lambda",
    "bot_trans": "vit, bot_trans, lambda",
    "lambda": "vit, bot_trans, lambda",
    "identity": "identity",
}
"""Colours of the figure by family: those that are one layer share one, and those that attend."""


@dataclass(frozen=True)
class Point:
    """An operation in the place of a block."""

    operation: str
    kind: str
    latency: float
    """Over that of the teacher's block."""
    loss: float
    """Change of cross-entropy on held-out images."""
    accuracy: float
    """Over the teacher's."""
    error: float
    """Of the block's output, over its variance."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--teacher", default="cifar10-resnet20")
    add("--data", type=Path, default=Path(os.environ.get("HANT_DATA", ROOT.parent / "shared" / "data")))
    add("--run", type=Path, required=True)
    add("--pool", default="hant-197")
    add("--target", default="cpu-ort")
    add("--images", type=int, default=4000, help="of the training data; 15 %% are held out")
    add("--epochs", type=float, default=1.0)
    add(
        "--keep-slower",
        action="store_true",
        help="train those slower than the teacher's block too",
    )
    add("--figure", type=Path, help="SVG file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with RunStore(options.run) as store:
        context = make_context(options, store)
        blocks = trace(context.model, context.example_inputs).replaceable
        chosen = tuple(blocks[len(blocks) * (place + 1) // COUNT - 1].name for place in range(COUNT))
        Pipeline([
            CapturePass(include=chosen), CandidatesPass(), ProfilePass(keep_slower=options.keep_slower),
            PretrainPass(epochs=options.epochs), ScorePass(),
        ]).run(context)  # fmt: skip
        found = {block: points(store, block) for block in chosen}
        slower = {block: [r for r in store.all(CandidateRecord).values() if r.block == block] for block in chosen}
    for block, rows in found.items():
        dropped = [record.operation for record in store.all(SlowerRecord).values() if record.block == block]
        failed = [f"{record.operation}: {record.reason}" for record in slower[block] if record.state == "failed"]
        tell(block, rows, dropped, failed)
    if options.figure:
        options.figure.write_text(draw(found))


def points(store: Store, block: str) -> list[Point]:
    """Return what was scored for a block, the teacher's own operation left out."""
    listed, latencies = store.all(OperationRecord), operation_ms(store)
    trained, scores = store.all(CandidateRecord), store.all(ScoreRecord)
    own, best = latencies[listed[f"{block}/teacher"].latency_key], scores[f"{block}/teacher"].accuracy
    return [
        Point(
            operation=score.operation,
            kind=KINDS[family(score.operation)],
            latency=latencies[listed[key].latency_key] / own,
            loss=score.delta,
            accuracy=score.accuracy / best,
            error=trained[key].nmse or 0.0,
        )
        for key, score in scores.items()
        if score.block == block and score.operation != "teacher" and trained[key].state == "ready"
    ]


def family(operation: str) -> str:
    return next(name for name in sorted(KINDS, key=len, reverse=True) if operation.startswith(name))


def front(rows: Sequence[Point]) -> Iterator[Point]:
    """Yield the points that no other one beats in latency and loss, the fastest first."""
    least = float("inf")
    for point in sorted(rows, key=lambda point: (point.latency, point.loss)):
        if point.loss < least:
            least = point.loss
            yield point


def tell(block: str, rows: Sequence[Point], dropped: Sequence[str], failed: Sequence[str]) -> None:
    """Print what the paper's observations are about."""
    best, kept = list(front(rows)), [point for point in rows if point.kind != "identity"]
    print(
        f"\n{block}: {len(rows)} scored, {len(dropped)} slower than the teacher's, {len(failed)} failed {failed or ''}"
    )
    print(f"median loss change {statistics.median(point.loss for point in kept):.4f}, without identity", end="; ")
    print(f"{sum(point.loss < 0 for point in rows)} below 0, {sum(point.accuracy > 1 for point in rows)} more accurate")
    print("\n| kind | slower | scored | least loss change | with | least error | fastest | on the front |")
    print("|---|--:|--:|--:|---|--:|--:|--:|")
    for kind in dict.fromkeys(KINDS.values()):
        out = sum(KINDS[family(operation)] == kind for operation in dropped)
        here = [point for point in rows if point.kind == kind]
        if not here:
            print(f"| {kind} | {out} | 0 |  |  |  |  |  |")
            continue
        least = min(here, key=lambda point: point.loss)
        numbers = f"{least.loss:.4f} | {least.operation} at {least.latency:.2f} | {min(p.error for p in here):.3f}"
        fastest = f"{min(point.latency for point in here):.2f}"
        print(f"| {kind} | {out} | {len(here)} | {numbers} | {fastest} | {sum(point in here for point in best)} |")
    names = (f"{p.operation} ({p.latency:.2f}, {p.loss:.3f}, {p.accuracy:.3f})" for p in best)
    print(f"\nfront (latency, loss change, accuracy over the teacher's): {', '.join(names)}")


def draw(found: dict[str, list[Point]]) -> str:
    """Return one panel a block, below one another, as SVG."""
    width, height = PANEL
    panels = []
    for place, (block, rows) in enumerate(found.items()):
        series = []
        for kind in dict.fromkeys(KINDS.values()):
            here = [point for point in rows if point.kind == kind]
            places = [(round(point.latency, 3), point.loss) for point in here]
            series.append(Series(kind, places, [point.operation for point in here]))
        labels = ("latency over that of the teacher's block", "change of cross-entropy")
        panel = scatter(series, labels, f"Operations in the place of {block}", size=PANEL)
        panels.append(panel.replace("<svg ", f'<svg y="{place * height}" ', 1))
    size = f'width="{width}" height="{height * len(panels)}" viewBox="0 0 {width} {height * len(panels)}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', *panels, "</svg>", ""])


if __name__ == "__main__":
    main()
