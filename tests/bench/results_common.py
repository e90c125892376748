"""What the three benches of results share: one treatment of every student, kept step by step, printed as a table.

A study is a folder: a run of hant for each pool (``fast``, ``zero-shot``, ...), and every finished step as a line of
JSON (``steps.jsonl``). Networks and weights of the students are in ``students`` of the run of ``--pool``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from hant import Budget, Pipeline, RunStore, pool
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.capturing.capture import CapturePass
from hant.passes.finetuning.align import AlignPass
from hant.passes.finetuning.examine import parts_of
from hant.passes.finetuning.finetune import FinetunePass
from hant.passes.finetuning.start import student
from hant.passes.finetuning.state import FinetuneState
from hant.passes.latency.profile import ProfilePass
from hant.passes.latency.provenance import here
from hant.passes.pretraining.pretrain import PretrainPass
from hant.passes.ranking.rank import RankPass
from hant.passes.ranking.records import WinnerRecord
from hant.passes.scoring.score import ScorePass
from hant.passes.searching.search import SearchPass
from hant.tests.bench.results_measure import Facts, accuracy, compared, timed
from hant.tests.bench.search_cifar10 import Step, make_context, run_parser
from hant.transformer.contracts.context import Context
from hant.transformer.data.images import size
from hant.transformer.data.splits import take
from hant.transformer.errors import HantError, InfeasibleError
from hant.transformer.pipeline.default import DEFAULT_SEARCH
from hant.transformer.runs.records import PassRecord
from hant.transformer.tools.files import slug, write_atomically
from torch import nn

_IDENTITY = (
    "teacher",
    "images",
    "test_images",
    "seed",
    "pretrain_epochs",
    "pretrain_precision",
    "learning_rate",
    "mixed_precision",
    "target",
    "pool",
    "solutions",
    "score_images",
    "halving",
    "search",
)
"""What a study is bound to; everything else may differ from one command to the next."""
_BEFORE = {"pretrain_precision": "no", "mixed_precision": "no", "halving": 0, "search": "ilp"}
"""What studies had that do not say it."""


def common_options(text: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that all benches of results have."""
    parser = run_parser(text)
    parser.set_defaults(images=50_000)
    add = parser.add_argument
    add("--test-images", type=int, default=10_000, help="fewer for a trial only")
    add("--align-epochs", type=int, help="of alignment, for students made of blocks; by default as the pass has it")
    add("--epochs", type=int, default=10, help="of fine-tuning")
    add("--learning-rate", type=float, help="of fine-tuning; by default that of its preset")
    add("--pretrain-epochs", type=float, default=1.0)
    add("--halving", type=int, default=0, help="rungs of pretraining where the integer program says who goes on")
    add("--search", choices=("ilp", "errors", "linear"), default=DEFAULT_SEARCH, help="as for hant-opt")
    add("--pretrain-precision", default="no", help="bf16: candidates are trained in half precision")
    add("--mixed-precision", default="no", help="bf16: fine-tuning in half precision, channels-last")
    add("--budgets", default="0.45", help="shares of the teacher's latency, with commas")
    add("--solutions", type=int, default=100, help="K")
    add("--score-images", type=int, default=6000, help="held-out images for scores and ranking, at most")
    add("--seed", type=int, default=0)
    add("--again", action="store_true", help="time students that are finished once more, on a quieter machine")
    add("--minutes", type=float, default=1e9, help="stop before a step once they are over")
    return parser


class Ledger:
    """Finished steps as lines of JSON, durable when ``put`` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._facts: dict[str, Facts] = {entry.pop("step"): entry for entry in map(json.loads, lines)}

    def get(self, key: str) -> Facts | None:
        return self._facts.get(key)

    def ending(self, text: str) -> dict[str, Facts]:
        """Return the finished steps whose keys end so."""
        return {key: facts for key, facts in self._facts.items() if key.endswith(text)}

    def put(self, key: str, facts: Mapping[str, Any]) -> None:
        self._facts[key] = {"when": time.strftime("%Y-%m-%d %H:%M:%S"), **facts}
        lines = [json.dumps({"step": name, **entry}) + "\n" for name, entry in self._facts.items()]
        write_atomically(self._path, "".join(lines))

    def once(self, key: str, make: Callable[[], Mapping[str, Any]], again: bool = False) -> Iterator[Step]:
        """Yield the step that puts ``key``, unless it is there; with its CPU seconds since it was started last."""
        if self.get(key) is not None and not again:
            return

        def step() -> None:
            started = time.process_time()
            facts = make()
            self.put(key, {"cpu_seconds": round(time.process_time() - started, 2), **facts})

        yield key, step


@dataclass
class Study:
    """The folder of a study, opened."""

    args: argparse.Namespace
    ledger: Ledger = field(init=False)
    _contexts: dict[str, Context] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.args.run.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(self.args.run / "steps.jsonl")
        asked = {name: getattr(self.args, name) for name in _IDENTITY}
        known = self.ledger.get("study") or asked
        differing = [name for name in _IDENTITY if known.get(name, _BEFORE.get(name)) != asked[name]]
        if differing:
            facts = ", ".join(f"{name} {known.get(name)!r} then and {asked[name]!r} now" for name in differing)
            raise SystemExit(f"{self.args.run} holds another study: {facts}; give another --run")
        if self.ledger.get("study") is None:
            self.ledger.put("study", {**asked, "machine": here(self.context())})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def context(self, pool_name: str = "") -> Context:
        """Return the context of the run for a pool, by default that of ``--pool``; its teacher is captured."""
        name = pool_name or self.args.pool
        if name not in self._contexts:
            store = self._open.enter_context(RunStore(self.args.run / slug(name)))
            if self._contexts:
                known = next(iter(self._contexts.values()))
                context = replace(known, store=store, pool=pool(name))
            else:
                context = replace(make_context(self.args, store), seed=self.args.seed, pool=pool(name))
                test = take(context.dataset.test, self.args.test_images)
                context = replace(context, data=replace(context.dataset, test=test))
                context = replace(context, graph=CapturePass().run(context).graph)
            self._contexts[name] = context
        return self._contexts[name]

    @property
    def treatment(self) -> str:
        """What every student of the study goes through."""
        args = self.args
        tested = f"{args.test_images} test images"
        how = [] if args.mixed_precision == "no" else [args.mixed_precision]
        how += [] if args.learning_rate is None else [f"rate {args.learning_rate:g}"]
        tuned = f"{args.epochs} epochs of fine-tuning" + (f" ({', '.join(how)})" if how else "")
        return f"{args.images} images, {tuned}, seed {args.seed}, {tested}"

    # a pool's table, scored

    def prepare(self, pool_name: str = "") -> Iterator[Step]:
        """Yield what is left of profiling, pretraining and scoring a pool."""
        name = pool_name or self.args.pool
        args = self.args
        precision = args.pretrain_precision
        pretrain = PretrainPass(epochs=args.pretrain_epochs, mixed_precision=precision, halving=args.halving)
        scores = [ScorePass(samples=args.score_images)] if args.search == "ilp" else []
        pipeline = Pipeline([CapturePass(), CandidatesPass(), ProfilePass(), pretrain, *scores])
        for stage in pipeline.names[1:]:
            yield from self.ledger.once(f"{name}/{stage}", partial(self._prepared, pipeline, name, stage))

    def _prepared(self, pipeline: Pipeline, name: str, stage: str) -> Facts:
        context = self.context(name)
        pipeline.run(context, only=("capture", stage))
        record = context.store.get(PassRecord, stage)
        return {"notes": record.notes if record is not None else ()}

    def preparation(self, pool_name: str = "") -> float:
        """Return the CPU seconds of ``prepare``."""
        name = pool_name or self.args.pool
        return sum(self.seconds(f"{name}/{stage}") for stage in ("candidates", "profile", "pretrain", "score"))

    def seconds(self, key: str) -> float:
        return float((self.ledger.get(key) or {}).get("cpu_seconds", 0.0))

    # hant's own search

    def searched(self, budget: str, pool_name: str = "", solutions: int = 0) -> str:
        """Return the key of a search, so that two benches in one folder do it once."""
        return f"{pool_name or self.args.pool}/{budget}/K={solutions or self.args.solutions}"

    def select(self, key: str, budget: str, pool_name: str = "", solutions: int = 0) -> Iterator[Step]:
        """Yield the step that selects and ranks; its facts have the ``choice``, or ``refused``."""
        make = partial(self._selected, budget, pool_name, solutions or self.args.solutions)
        yield from self.ledger.once(key, make)

    def _selected(self, budget: str, pool_name: str, solutions: int) -> Facts:
        context, wanted = self.context(pool_name), Budget.parse(budget)
        try:
            SearchPass(search=self.args.search, budget=wanted, solutions=solutions).run(context)
            RankPass(budget=wanted, samples=self.args.score_images, race="confident").run(context)
        except InfeasibleError as error:
            return {"refused": str(error)}
        winner = context.store.get(WinnerRecord, "winner")
        assert winner is not None, "rank writes it"
        return {"choice": winner.choice, "solutions": solutions}

    def transformed(self, choice: Mapping[str, str], pool_name: str = "", preload: str = "all") -> nn.Module:
        """Return the network of a choice, with the weights that ``preload`` says."""
        return student(self.context(pool_name), choice, preload).network

    def align(self, key: str, choice: Mapping[str, str], turn: int = 0) -> Iterator[Step]:
        """Yield the step that aligns the network of a choice; ``turn`` adds to the seed."""
        yield from self.ledger.once(f"{key}/align", partial(self._aligned, key, choice, turn))

    def _trained_in(self, turn: int) -> Context:
        return replace(self.context(), seed=self.args.seed + turn)

    def aligned(self, key: str, choice: Mapping[str, str]) -> nn.Module:
        """Return the network of a choice after its alignment."""
        network = self.transformed(choice)
        network.load_state_dict(self.context().store.load_tensors(weights_of(f"{key}/align")))
        return network

    def _aligned(self, key: str, choice: Mapping[str, str], turn: int) -> Facts:
        context = self._trained_in(turn)
        parts = parts_of(context.dataset, context.seed)
        options = AlignPass(epochs=self.args.align_epochs, mixed_precision=self.args.mixed_precision)
        recipe = options.recipe(context, key, parts)
        state, stopped = options.train(context, student(context, choice), choice, recipe, parts)
        context.store.save_tensors(weights_of(f"{key}/align"), state.best)
        return {"epochs": recipe.epochs, "steps": recipe.total, **found_of(state), "stopped": stopped}

    # every student alike

    def judge(
        self,
        key: str,
        start: Callable[[], nn.Module],
        epochs: int,
        beside: nn.Module | None = None,
        turn: int = 0,
        **options: Any,
    ) -> Iterator[Step]:
        """Yield the steps of a student: accuracy as it is, fine-tuning, accuracy and latency after it.

        ``start`` makes the same network with the same weights at every call, which nobody else holds; ``beside`` is
        timed with it and the teacher; ``turn`` adds to the seed; ``options`` are those of ``FinetunePass``.
        """
        yield from self.ledger.once(f"{key}/before", lambda: {"accuracy": accuracy(self.context(), start())})
        precision = self.args.mixed_precision
        usual = {"learning_rate": self.args.learning_rate, "mixed_precision": precision}
        finetune = FinetunePass(epochs=epochs, channels_last=precision != "no", **usual | options)
        yield from self.ledger.once(f"{key}/finetune", partial(self._finetuned, key, start, finetune, turn))
        yield from self.ledger.once(f"{key}/after", partial(self._judged, key, start, beside), self.args.again)

    def _finetuned(self, key: str, start: Callable[[], nn.Module], options: FinetunePass, turn: int) -> Facts:
        context = self._trained_in(turn)
        parts = parts_of(context.dataset, context.seed)
        recipe = options.recipe(context, key, size(parts.fit))
        state, stopped = options.train(context, start(), recipe, parts)
        context.store.save_tensors(weights_of(key), state.best)
        return {"epochs": recipe.epochs, "steps": recipe.total, **found_of(state), "stopped": stopped}

    def _judged(self, key: str, start: Callable[[], nn.Module], beside: nn.Module | None) -> Facts:
        context, network = self.context(), self.trained(key, start)
        teacher, own, *others = timed(context, [network, *([] if beside is None else [beside])])
        facts = {"accuracy": accuracy(context, network), "parameters": sum(p.numel() for p in network.parameters())}
        facts |= compared("teacher", own, teacher)
        return facts | (compared("beside", own, others[0]) if others else {})

    def trained(self, key: str, start: Callable[[], nn.Module]) -> nn.Module:
        """Return a student after its fine-tuning."""
        network = start()
        network.load_state_dict(self.context().store.load_tensors(weights_of(key)))
        return network

    def teacher_accuracy(self) -> Iterator[Step]:
        context = self.context()
        yield from self.ledger.once("teacher", lambda: {"accuracy": accuracy(context, context.model)})


def found_of(state: FinetuneState) -> Facts:
    """Return what a training has come to, on the images that judge."""
    assert state.start is not None, "the start was offered"
    assert state.found is not None, "the start was offered"
    return {
        "held_out": state.found.accuracy,
        "divergence": [state.start.divergence, state.found.divergence],
        "best": state.best_epoch,
        "share": state.share,
    }


def weights_of(key: str) -> str:
    return f"students/{slug(key)}.safetensors"


def run_study(
    parser: argparse.ArgumentParser, steps: Callable[[Study], Iterator[Step]], write: Callable[[Study], None]
) -> None:
    """Do what is left of the study that the command line asks for, and print what there is."""
    args = parser.parse_args()
    try:
        with Study(args) as study:
            complete = run_steps(study, steps(study))
            print("\ncomplete" if complete else "\nnot complete")
            write(study)
    except HantError as error:
        raise SystemExit(str(error)) from error


def run_steps(study: Study, steps: Iterator[Step]) -> bool:
    """Do the steps in order; return whether all are done. What went before a stop is not done again."""
    started = time.monotonic()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    for name, step in steps:
        if time.monotonic() - started > 60 * study.args.minutes:
            print(f"stopped before {name}: {study.args.minutes:g} minutes are over; the same command goes on from here")
            return False
        study.context().progress.log(name)
        step()
    return True


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print in Markdown; numbers stand on the right."""
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|---|" + "---:|" * (len(head) - 1))
    for row in rows:
        print(f"| {' | '.join(row)} |")
