"""Whether stopping what no selection near the best uses changes the selection, and what it saves (docs/pretraining.md).

    make demo && python tests/bench/pretraining_halving.py runs/digits [--rungs 2]
    python tests/bench/pretraining_halving.py RUN --teacher cifar10-resnet20 [--data DIR]

Works on a copy of a finished run; with ``--teacher`` it makes the run first, of that pretrained CIFAR-10 network from
the folder DIR (default: the variable HANT_DATA), and goes on with it after a stop. Trains the run's candidates again
up to the last rung only, and stops those that no selection uses; the others would end with the weights that the run
holds (tests/passes/pretraining/test_driver.py). Then it solves for the selections with all candidates and with those
that are left, within the same limit.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import torch
from hant import Pipeline
from hant.passes.candidates.build import build_candidate
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.candidates.records import OperationRecord
from hant.passes.capturing.capture import CapturePass
from hant.passes.latency.profile import ProfilePass
from hant.passes.latency.records import LatencyRecord
from hant.passes.pretraining.engine import measure, train, variances
from hant.passes.pretraining.halving import selected, stops
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.pretraining.recipe import resolve
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.pretraining.trainer import Trainer
from hant.passes.ranking.records import WinnerRecord
from hant.passes.scoring.score import ScorePass
from hant.passes.selecting.records import SelectionRecord
from hant.passes.selecting.select import SelectPass
from hant.passes.selecting.table import known_table
from hant.passes.selecting.weightings import stages
from hant.tests.bench.search_cifar10 import ROOT, copied
from hant.tests.bench.search_cifar10 import make_context as cifar10_context
from hant.transformer.contracts.budget import Budget
from hant.transformer.contracts.context import Context
from hant.transformer.data.images import size
from hant.transformer.data.splits import split, take
from hant.transformer.pipeline.config import FILE, make, read
from hant.transformer.pipeline.session import load_materials, make_context
from hant.transformer.runs.store import RunStore

CPU = torch.device("cpu")


def opened(options: argparse.Namespace) -> AbstractContextManager[Context]:
    """Make the run where it is to be made, and open a copy of it."""
    in_run: Callable[[RunStore], Context] = partial(cifar10_context, options) if options.teacher else of_run
    if options.teacher:
        with RunStore(options.run) as store:
            stages = (
                CapturePass(), CandidatesPass(), ProfilePass(), PretrainPass(epochs=options.epochs),
                ScorePass(samples=options.score_images),
            )  # fmt: skip
            Pipeline(stages).run(in_run(store))
    return copied(options.run, in_run)


def of_run(store: RunStore) -> Context:
    """Return the context that a run's configuration describes."""
    config = make(read(store.root / FILE))
    return make_context(config, load_materials(config), store)


def errors_at(
    context: Context, rungs: list[int], keys: set[str], epochs: float | None
) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the held-out error of every candidate after each rung's steps, by key."""
    graph, parts = context.teacher, split(context.dataset, context.seed)
    recipe = resolve(size(parts.fit), context.seed, epochs=epochs)
    trainers = [
        Trainer(block.name, spec.name, build_candidate(block, spec, context.seed), recipe)
        for block in graph.replaceable
        for spec in context.pool
        if f"{block.name}/{spec.name}" in keys
    ]
    scale, step = variances(graph, take(parts.fit, 512), recipe.batch_size, CPU), 0
    for stop in rungs:
        train(graph, trainers, recipe, parts.fit, scale, CPU, workers=1, start=step, stop=stop)
        found = measure(graph, trainers, take(parts.held_out, 1000), 64, CPU)
        step = stop
        print(f"{len(trainers)} candidates after {stop} steps: {time.process_time():.0f} CPU s", flush=True)
        yield stop, {f"{block}/{operation}": error for (block, operation), error in found.items()}


def stopped(context: Context, options: argparse.Namespace) -> tuple[dict[str, str], float]:
    """Return when candidates are stopped, by key, and the share of pretraining's seconds that is saved."""
    store, rungs, file = context.store, options.rungs, options.errors
    ready = {k: r for k, r in store.all(CandidateRecord).items() if r.state == "ready" and r.operation != "teacher"}
    rows, listed = store.all(LatencyRecord), store.all(OperationRecord)
    latency = {key: rows[listed[key].latency_key].timing.ms for key in ready}
    own = {r.block: rows[r.latency_key].timing.ms for r in listed.values() if r.operation == "teacher"}
    steps = max(record.steps for record in ready.values())
    trained = {key for key, record in ready.items() if record.steps}
    if file is not None and file.exists():
        known = {int(step): errors for step, errors in json.loads(file.read_text()).items()}
    else:
        known = dict(errors_at(context, stops(steps, rungs)[:-1], trained, options.epochs))
        if file is not None:
            file.write_text(json.dumps(known))
    saved = 0.0
    reasons: dict[str, str] = {}
    graph = context.teacher
    for stop in stops(steps, rungs)[:-1]:
        untrained = {key: record.nmse or 0.0 for key, record in ready.items() if not record.steps}
        alive = {key: error for key, error in (known[stop] | untrained).items() if key not in reasons}
        pairs = {block.name: {f"{block.name}/teacher": (own[block.name], 0.0)} for block in graph.replaceable}
        for key, error in alive.items():
            pairs[ready[key].block][key] = latency[key], error
        kept = selected(list(pairs.values()), stages(graph))
        found = [key for key in alive if key not in kept]
        reasons |= dict.fromkeys(found, f"after {stop}")
        saved += sum(ready[key].seconds * (1 - stop / steps) for key in found)
    return reasons, saved / sum(record.seconds for record in ready.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rungs", type=int, default=2)
    parser.add_argument("--errors", type=Path, help="JSON file of the errors at the rungs; written where it is not")
    parser.add_argument("--teacher", help="such as cifar10-resnet20; for a run that is made here")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HANT_DATA", ROOT.parent / "shared" / "data")))
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--epochs", type=float, help="as in the run; default: the automatic number")
    parser.add_argument("--score-images", type=int, default=ScorePass.samples, help="held-out images for scores")
    parser.add_argument("--pool", default="fast")
    parser.add_argument("--target", default="cpu-ort")
    parser.add_argument("--budget", type=float, default=0.45, help="share of the table's sum, without selections")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with opened(options) as context:
        store = context.store
        whole = known_table(store, context.teacher)
        spent = [record.cost["ms"] for record in store.all(SelectionRecord).values()]
        limit = max(spent, default=options.budget * whole.total("ms", whole.teacher()))
        reasons, saved = stopped(context, options)
        program = SelectPass(budget=Budget.parse("1"))
        pools, known = [], store.all(CandidateRecord)
        for key in reasons:
            store.put(key, known[key].model_copy(update={"state": "dropped"}))
        for part in (whole, known_table(store, context.teacher)):
            found = program.solve(part, context.teacher, limit, 100)
            pools.append([(part.choice(s.choice), s.objective) for s in found])
        winner = store.get(WinnerRecord, "winner")
    for key, reason in sorted(reasons.items()):
        print(f"  {key} {reason}")
    print(f"{len(reasons)} candidates stopped, {100 * saved:.1f} % of the seconds saved")
    (first, loss), (other, other_loss) = pools[0][0], pools[1][0]
    words = "the same" if first == other else "another"
    print(f"first selection {words}: predicted loss {loss:.6f} and {other_loss:.6f}, {other_loss / loss - 1:+.2%}")
    common = sum(choice in [c for c, _ in pools[1]] for choice, _ in pools[0])
    print(f"{common} of {len(pools[0])} selections are the same")
    if winner is None:
        return
    lost = [f"{b}/{o}" for b, o in winner.choice.items() if f"{b}/{o}" in reasons]
    print(f"the network that was fine-tuned {'could not be chosen: ' + ', '.join(lost) if lost else 'can be chosen'}")


if __name__ == "__main__":
    main()
