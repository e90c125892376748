"""Search on CIFAR-10: integer programming against other searches, at several budgets, and is the proxy true?

    python tests/bench/search_cifar10.py --teacher cifar10-resnet56 --run runs/search-resnet56

The data folder (``--data``, or the variable HANT_DATA) holds CIFAR-10 and ``teachers/NAME.safetensors``. Every stage
is kept: the same command goes on after a stop, ``--minutes`` stops before a step once they are over. Prints tables in
Markdown and writes ``search.json`` into the run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hant import Budget, Data, Pipeline, RunStore, load, pool, save
from hant.backends.targets.load import load_target
from hant.examples.cifar10 import network
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.capturing.capture import CapturePass
from hant.passes.latency.profile import ProfilePass
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.reporting.figures.run import draw_searches
from hant.passes.scoring.records import ScoreRecord
from hant.passes.scoring.score import ScorePass
from hant.passes.searching.base import BaselinePass
from hant.passes.searching.greedy import GreedyPass
from hant.passes.searching.ilp import IlpPass
from hant.passes.searching.random_search import RandomPass
from hant.passes.searching.records import BaselineRecord
from hant.passes.searching.reinforce import ReinforcePass
from hant.passes.searching.snas import SnasPass
from hant.passes.selecting.proxy import ProxyPass
from hant.passes.selecting.records import ProxyRecord
from hant.passes.selecting.table import search_table
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.progress import Progress
from hant.transformer.data.images import ImageTensors, size
from hant.transformer.data.sources import load_data
from hant.transformer.data.splits import split, take
from hant.transformer.errors import HantError
from hant.transformer.ir.graph import Graph
from hant.transformer.plugins import load_plugin
from hant.transformer.runs.records import PassRecord
from safetensors.torch import load_file
from torch import nn

ROOT = Path(__file__).parents[2]
Step = tuple[str, Callable[[], object]]


class Lines(Progress):
    """Progress as lines."""

    def log(self, message: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {message}", flush=True)


def run_parser(text: str | None) -> argparse.ArgumentParser:
    """Return a parser of what a run on CIFAR-10 is made of, as ``make_context`` takes it."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--teacher", default="cifar10-resnet56")
    add("--data", type=Path, default=Path(os.environ.get("HANT_DATA", ROOT.parent / "shared" / "data")))
    add("--run", type=Path, default=Path("runs/bench"), help="folder of the run, or of the study")
    add("--pool", default="fast")
    add("--target", default="cpu-ort")
    add("--device", default="cpu", help="that trains; the training images lie on it")
    add("--images", type=int, default=8000, help="of the training data; 15 %% of them, at most 6,000, are held out")
    return parser


def options() -> argparse.Namespace:
    parser = run_parser(__doc__)
    add = parser.add_argument
    add("--budgets", default="0.3,0.45,0.6,0.75")
    add("--epochs", type=float, default=1.0, help="of pretraining")
    add("--solutions", type=int, default=100)
    add("--random", type=int, default=1000, help="random networks per budget")
    add("--snas-steps", type=int, default=100)
    add("--snas-batch", type=int, default=16)
    add("--reinforce-steps", type=int, default=200)
    add("--proxy", type=int, default=300, help="networks of the proxy study")
    add("--minutes", type=float, default=1e9)
    add("--threads", type=int, default=0, help="of torch; 0 leaves it alone")
    return parser.parse_args()


def teacher_of(data: Path, name: str, folder: Path) -> nn.Module:
    """The pretrained network, through a self-describing checkpoint; ``digits`` is the one of the demo."""
    if name == "digits":
        return load(ROOT / "examples" / "digits" / "teacher.pt").eval()
    file = folder / f"{name}.pt"
    if not file.exists():
        made: nn.Module = getattr(network, name.rpartition("-")[2])()
        made.load_state_dict(load_file(data / "teachers" / f"{name}.safetensors"), strict=False)
        folder.mkdir(parents=True, exist_ok=True)
        save(made.eval(), file, torch.zeros(1, 3, 32, 32))
    return load(file).eval()


def make_context(args: argparse.Namespace, store: RunStore) -> Context:
    """A run on CIFAR-10, or on the digits for their teacher."""
    shape = (1, 32, 32) if args.teacher == "digits" else (3, 32, 32)
    data = load_data("digits" if args.teacher == "digits" else f"cifar10:{args.data}?normalize=imagenet", shape)
    device = torch.device(args.device)
    small = Data(
        take(on_device(data.train, device), args.images), data.test, f"{data.name} {args.images}", data.augment
    )
    target = load_target(args.target)
    return Context(
        model=teacher_of(args.data, args.teacher, store.root),
        example_inputs=(torch.zeros(2, *shape),),
        store=store,
        target=target,
        backend=load_plugin("hant.backends", target.backend)(),
        pool=pool(args.pool),
        data=small,
        device=device,
        progress=Lines(),
    )


def on_device(dataset: Any, device: torch.device) -> Any:
    """Images in memory as the same images in the device's memory, where batches are cut and augmented then."""
    if device.type == "cpu" or not isinstance(dataset, ImageTensors):
        return dataset
    return replace(dataset, images=dataset.images.to(device), labels=dataset.labels.to(device))


@contextmanager
def copied(run: Path, make: Callable[[RunStore], Context]) -> Iterator[Context]:
    """Yield the context that ``make`` gives a copy of ``run``, captured; the run itself stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(run, Path(folder) / "run"))
        with RunStore(copy) as store:
            context = make(store)
            yield replace(context, graph=CapturePass().run(context).graph)


def searches(args: argparse.Namespace, held_out: int) -> Iterator[BaselinePass]:
    for text in args.budgets.split(","):
        common: dict[str, Any] = {"budget": Budget.parse(text), "samples": held_out}
        yield IlpPass(solutions=1, **common)
        yield IlpPass(solutions=args.solutions, **common)
        yield GreedyPass(**common)
        yield RandomPass(networks=args.random, **common)
        yield ReinforcePass(steps=args.reinforce_steps, **common)
        yield SnasPass(steps=args.snas_steps, search_batch_size=args.snas_batch, **common)


def steps(args: argparse.Namespace, context: Context) -> Iterator[Step]:
    """What is still to be done, in order."""
    store = context.store
    preparation = Pipeline([
        CapturePass(), CandidatesPass(), ProfilePass(), PretrainPass(epochs=args.epochs), ScorePass(),
    ])  # fmt: skip
    for stage in preparation.passes[1:]:
        yield stage.name, partial(preparation.run, context, only=("capture", stage.name))
    held_out = size(split(context.dataset, context.seed).held_out)
    for search in searches(args, held_out):
        known = store.get(BaselineRecord, f"{search.method}/{search.budget}")
        if known is None or known.samples != held_out:
            yield f"{search.method} at {search.budget}", partial(told, context, search)
    known_proxy = store.get(ProxyRecord, "proxy")
    if known_proxy is None or known_proxy.samples != held_out:
        yield "proxy", lambda: told(context, ProxyPass(networks=args.proxy))


def told(context: Context, stage: BaselinePass | ProxyPass) -> None:
    try:
        for note in stage.run(context).notes:
            context.progress.log(note)
    except HantError as error:
        context.progress.log(f"{stage.name}: {error}")


def write_results(store: RunStore) -> None:
    """Print tables in Markdown, draw the figure and write ``search.json``."""
    records = list(store.all(BaselineRecord).values())
    budgets = sorted({record.budget for record in records}, key=float)
    methods = list(dict.fromkeys(record.method for record in records))
    found = {(record.method, record.budget): record for record in records}
    columns: tuple[tuple[str, Callable[[BaselineRecord], str]], ...] = (
        ("cross-entropy before fine-tuning", lambda r: f"{r.loss:.4f}"),
        ("held-out accuracy before fine-tuning, %", lambda r: f"{r.accuracy:.2f}"),
        ("search cost, CPU seconds (networks run)", lambda r: f"{r.seconds:.1f} ({r.networks})"),
        ("table sum, share of its limit", lambda r: f"{r.cost['ms'] / r.limits['ms']:.3f}"),
    )
    for title, cell in columns:
        print(f"\n{title}\n\n| method | " + " | ".join(budgets) + " |\n|---|" + "---:|" * len(budgets))
        for method in methods:
            row = [cell(found[method, b]) if (method, b) in found else "" for b in budgets]
            print(f"| {method} | " + " | ".join(row) + " |")
    proxy = store.get(ProxyRecord, "proxy")
    if proxy is not None:
        p = proxy
        print(f"\nproxy on {p.networks} networks, {p.samples} images: Kendall {p.kendall_loss:.3f} and Spearman "
              f"{p.spearman_loss:.3f} against loss, {p.kendall_accuracy:.3f} and {p.spearman_accuracy:.3f} against "
              f"accuracy")  # fmt: skip
    seconds = {name: record.seconds for name, record in store.all(PassRecord).items()}
    print("\npreparation, wall seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()))
    if records:
        draw_searches(store)
    content = {
        "searches": [record.model_dump() for record in records],
        "proxy": None if proxy is None else proxy.model_dump(),
        "preparation_seconds": seconds,
    }
    store.write("search.json", json.dumps(content, indent=1))


def write_table(store: RunStore, graph: Graph) -> None:
    """Write ``table.json`` for selection_figures.py: loss changes, and latencies as shares of the teacher's sum."""
    if not store.count(ScoreRecord.kind):
        return
    table = search_table(store, graph)
    whole = table.total("ms", table.teacher())
    tables = {"loss": table.loss, "cost": [row / whole for row in table.cost["ms"]]}
    store.write("table.json", json.dumps({name: [row.tolist() for row in rows] for name, rows in tables.items()}))


def main() -> None:
    args = options()
    started = time.monotonic()
    if args.threads:
        torch.set_num_threads(args.threads)
    with RunStore(args.run) as store:
        context = make_context(args, store)
        graph = CapturePass().run(context).graph
        assert graph is not None, "capture makes it"
        context = replace(context, graph=graph)
        complete = True
        for name, step in steps(args, context):
            if time.monotonic() - started > 60 * args.minutes:
                print(f"stopped before {name}: {args.minutes:g} minutes are over; the same command goes on from here")
                complete = False
                break
            context.progress.log(name)
            step()
        write_table(store, graph)
        write_results(store)
        print("\ncomplete" if complete else "\nnot complete")


if __name__ == "__main__":
    main()
