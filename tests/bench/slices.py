"""Slices of a trained teacher without any training: how much accuracy is left at which share of its MACs?

    python tests/bench/slices.py --teacher cifar10-resnet20 --macs 0.745,0.60,0.44 --run runs/slices

Inner channels of each block are sorted by the weights that read them and cut, or the block is skipped. One operation a
block is chosen by the solver, by summed loss changes on held-out images under a limit of MACs; nothing is trained.
Accuracy is that on the test images, with batch norms estimated again on training images, and as they were after each
block alone. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace

import hant
import numpy as np
from hant import RunStore
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.candidates.records import OperationRecord
from hant.passes.capturing.capture import CapturePass
from hant.passes.networks.assemble import CandidateWeights, build_student, independent
from hant.passes.networks.evaluate import evaluate
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.ranking.recalibrate import batch_norm_statistics
from hant.passes.scoring.records import ScoreRecord
from hant.passes.scoring.score import ScorePass
from hant.tests.bench.search_cifar10 import make_context, run_parser
from hant.transformer.contracts.context import Context
from hant.transformer.data.images import batches
from hant.transformer.data.splits import split, take
from torch import nn

_BATCH, _BATCHES = 256, 8
"""Training images that batch norms are estimated on, as ranking does."""


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = run_parser(__doc__)
    parser.set_defaults(teacher="cifar10-resnet20", pool="elastic")
    parser.add_argument("--macs", default="0.745,0.60,0.44", help="shares of the teacher's MACs")
    parser.add_argument("--test", type=int, default=10_000, help="test images")
    return parser.parse_args()


def chosen(context: Context, share: float) -> tuple[dict[str, str], float]:
    """Return the choice of least summed loss change at this share of the teacher's MACs, and its own share."""
    graph, store = context.teacher, context.store
    listed, scores = store.all(OperationRecord), store.all(ScoreRecord)
    blocks, names = [block.name for block in graph.replaceable], [spec.name for spec in context.pool]
    keys = [[f"{block}/{name}" for name in names] for block in blocks]
    allowed = np.array([[key in scores for key in row] for row in keys])
    loss = np.array([[scores[key].delta if key in scores else 0.0 for key in row] for row in keys])
    macs = np.array([[float(listed[key].macs) for key in row] for row in keys])
    outside = graph.macs - sum(block.macs for block in graph.replaceable)
    limit = share * graph.macs - outside
    problem = hant.SelectionProblem(
        loss=loss, cost={"macs": macs}, limits={"macs": limit}, allowed=allowed, solutions=1
    )
    best = hant.solve(problem)[0]
    taken = sum(row[place] for row, place in zip(macs, best.choice, strict=True))
    choice = {block: names[place] for block, place in zip(blocks, best.choice, strict=True)}
    return choice, float((outside + taken) / graph.macs)


def student(context: Context, choice: Mapping[str, str], recalibrate: bool) -> nn.Module:
    """Return the network of a choice."""
    graph = independent(build_student(context.teacher, choice, CandidateWeights(context.store)))
    if recalibrate:
        images = take(split(context.dataset, context.seed).fit, _BATCH * _BATCHES)
        buffers = batch_norm_statistics(graph.network, (some for some, _ in batches(images, _BATCH)))
        graph.network.load_state_dict(buffers, strict=False)
    return graph.network


def study(context: Context, shares: list[float], images: int) -> None:
    """Copy and score the slices, then print a row for each share."""
    started = time.process_time()
    listing = () if context.store.count(OperationRecord.kind) else (CandidatesPass(),)
    for stage in (*listing, PretrainPass(derived="copy"), ScorePass()):
        print(*stage.run(context).notes, sep="\n", flush=True)
    test = take(context.dataset.test, images)
    whole = evaluate(context.teacher.network, test).accuracy
    print(f"\nTeacher: {whole:.2f} % of {images} test images.\n")
    print("| MACs | accuracy % | norms as they were % | operations |")
    print("|--:|--:|--:|---|", flush=True)
    for share in shares:
        choice, own = chosen(context, share)
        again, before = (evaluate(student(context, choice, anew), test).accuracy for anew in (True, False))
        print(f"| {own:.3f} | {again:.2f} | {before:.2f} | {' '.join(choice.values())} |", flush=True)
    print(f"\n{time.process_time() - started:.0f} CPU seconds in all")


def main() -> None:
    """Run the study; what is copied and scored is kept in ``--run``."""
    args = options()
    with RunStore(args.run) as store:
        context = make_context(args, store)
        context = replace(context, graph=CapturePass().run(context).graph)
        study(context, [float(text) for text in args.macs.split(",")], args.test)


if __name__ == "__main__":
    main()
