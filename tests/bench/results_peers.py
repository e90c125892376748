"""Peers at the same measured latency, from the same teacher, with the same fine-tuning and distillation: one table.

    pip install -e '.[bench]'
    python tests/bench/results_peers.py --run runs/peers --budgets 0.6,0.45 --epochs 10

hant with its pool, hant with the pool ``zero-shot``, the first random network under the budget, Torch-Pruning, NVIDIA
Model Optimizer's FastNAS, and the teacher with fewer channels, trained from nothing. What sheds channels has a knob for
its size, and no latency: the knob is turned until the latency measured beside the teacher is within the budget. The
pruners get a teacher whose shortcuts are convolutions (equal outputs), since they cannot follow the padded ones. In the
end all students of a budget are timed against each other; ``--again`` does that anew.
The same command goes on after a stop; prints a table in Markdown.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import hant
import torch
from hant import Budget
from hant.passes.searching.random_search import RandomPass
from hant.passes.searching.records import BaselineRecord
from hant.passes.selecting.select import MARGIN
from hant.tests.bench import results_channels
from hant.tests.bench.results_channels import fastnas, narrow, prunable, taylor
from hant.tests.bench.results_common import Study, common_options, print_table, run_study
from hant.tests.bench.results_measure import Facts, compared, interval, timed
from hant.tests.bench.search_cifar10 import Step
from hant.transformer.errors import InfeasibleError
from hant.transformer.tools.files import slug
from torch import nn

ZERO_SHOT = "zero-shot"
PROBES = 7
"""Networks that are measured on the way to a budget."""
ROUNDS = 60
"""Rounds of such a measurement, at most."""


@dataclass(frozen=True)
class Peer:
    """A way to shed channels, with one knob."""

    sized: Callable[[Study, float], nn.Module]
    """From the share of channels or FLOPs to keep, in 0..1, to the network: the more, the slower."""
    library: str = ""
    """What has to be installed."""
    wrote: tuple[Callable[..., object], ...] = ()
    """What the user writes besides the loop over latencies."""


PEERS = {
    "torch-pruning": Peer(taylor, "torch_pruning", (taylor, prunable)),
    "fastnas": Peer(fastnas, "modelopt.torch.prune", (fastnas, prunable)),
    "width": Peer(narrow, "", (narrow,)),
}
METHODS = ("hant", ZERO_SHOT, "random", *PEERS)


def steps(study: Study) -> Iterator[Step]:
    yield from study.teacher_accuracy()
    for name in methods(study):
        yield from search(study, name)
    for budget in budgets(study):
        for key, start in students(study, budget).items():
            yield from study.judge(key, start, study.args.epochs)
        yield from study.ledger.once(together(study, budget), partial(timed_together, study, budget), study.args.again)


def students(study: Study, budget: str) -> dict[str, Callable[[], nn.Module]]:
    """Return key -> how to make the network before fine-tuning, of those that were found."""
    made: dict[str, Callable[[], nn.Module]] = {}
    for name in methods(study):
        found = study.ledger.get(searched(study, name, budget)) or {}
        key = f"{searched(study, name, budget)}/{study.args.epochs}"
        if "choice" in found:
            made[key] = partial(study.transformed, found["choice"], pool_of(name))
        elif "file" in found:
            made[key] = partial(hant.load, study.context().store.path(found["file"]))
    return made


def together(study: Study, budget: str) -> str:
    return f"together/{budget}/{study.args.epochs}/{','.join(methods(study))}"


def timed_together(study: Study, budget: str) -> Facts:
    """Time all students and the teacher against each other: the machine was not in the same state all the time."""
    made = students(study, budget)
    teacher, *timings = timed(study.context(), [study.trained(key, start) for key, start in made.items()])
    return {key: compared("teacher", timing, teacher) for key, timing in zip(made, timings, strict=True)}


def methods(study: Study) -> list[str]:
    wanted = study.args.methods.split(",")
    unknown = [name for name in wanted if name not in METHODS]
    if unknown:
        raise SystemExit(f"unknown method {unknown[0]!r}; there are {', '.join(METHODS)}")
    return [name for name in wanted if name not in PEERS or not absent(PEERS[name])]


def budgets(study: Study) -> list[str]:
    return [budget for budget in study.args.budgets.split(",") if budget]


def absent(peer: Peer) -> str:
    """Return why a peer's library cannot be used; nothing where it can."""
    try:
        if peer.library:
            importlib.import_module(peer.library)
    except ImportError as error:
        return f"{peer.library}: {error}; install hant's extra bench"
    return ""


def pool_of(name: str) -> str:
    """Return the pool that a method of hant's chooses from; nothing for that of the study."""
    return ZERO_SHOT if name == ZERO_SHOT else ""


def searched(study: Study, name: str, budget: str) -> str:
    """Return the key of a method's search; hant's are those of the ablations."""
    return study.searched(budget, pool_of(name)) if name in ("hant", ZERO_SHOT) else f"{name}/{budget}"


def search(study: Study, name: str) -> Iterator[Step]:
    if name in ("hant", ZERO_SHOT, "random"):
        yield from study.prepare(pool_of(name))
    for budget in budgets(study):
        key = searched(study, name, budget)
        if name in PEERS:
            yield from within(study, key, PEERS[name], float(budget) * (1 - MARGIN))
        elif name == "random":
            yield from study.ledger.once(key, partial(first_random, study, budget))
        else:
            yield from study.select(key, budget, pool_of(name))


def first_random(study: Study, budget: str) -> Facts:
    context, wanted = study.context(), Budget.parse(budget)
    try:
        RandomPass(budget=wanted, networks=1).run(context)
    except InfeasibleError as error:
        return {"refused": str(error)}
    record = context.store.get(BaselineRecord, f"random/{wanted}")
    assert record is not None, "the pass writes it"
    return {"choice": record.choice}


def within(study: Study, key: str, peer: Peer, allowed: float) -> Iterator[Step]:
    """Halve the range of the knob until the largest network within the budget is found; each probe is kept."""
    low, high, best = 0.0, 1.0, ""
    for index in range(PROBES):
        probe, middle = f"{key}/probe {index}", (low + high) / 2
        yield from study.ledger.once(probe, partial(probed, study, probe, peer, middle))
        if (study.ledger.get(probe) or {})["ratio_teacher"] <= allowed:
            low, best = middle, probe
        else:
            high = middle
    yield from study.ledger.once(key, partial(settled, study, key, best))


def probed(study: Study, probe: str, peer: Peer, share: float) -> Facts:
    context, file = study.context(), f"students/{slug(probe)}.pt"
    torch.manual_seed(study.args.seed)
    network = peer.sized(study, share).eval()
    context.store.path(file).parent.mkdir(exist_ok=True)
    hant.save(network, context.store.path(file), torch.zeros(1, 3, 32, 32))
    teacher, timing = timed(context, [hant.load(context.store.path(file))], ROUNDS)
    return {"share": share, "file": file, **compared("teacher", timing, teacher)}


def settled(study: Study, key: str, best: str) -> Facts:
    probes = [study.ledger.get(f"{key}/probe {index}") or {} for index in range(PROBES)]
    spent = {"cpu_seconds": round(sum(facts["cpu_seconds"] for facts in probes), 2)}
    if not best:
        least = min(facts["ratio_teacher"] for facts in probes)
        return {**spent, "refused": f"the least that was met is {least:.3f} of the teacher's latency"}
    facts = study.ledger.get(best) or {}
    return {**spent, "file": facts["file"], "share": facts["share"]}


def lines(functions: tuple[Callable[..., object], ...]) -> int:
    return sum(len(inspect.getsource(function).splitlines()) for function in functions)


def wrote(name: str) -> str:
    if name not in PEERS:
        return f"one command{', --pool zero-shot' * (name == ZERO_SHOT)}{' and hant-opt apply' * (name == 'random')}"
    own, loop = lines(PEERS[name].wrote), lines((within, probed))
    return f"{own} lines, and {loop} to meet the latency"


def row(study: Study, name: str, budget: str) -> list[str]:
    ledger, key = study.ledger, searched(study, name, budget)
    found = ledger.get(key) or {}
    before, tuned, after = (ledger.get(f"{key}/{study.args.epochs}/{part}") for part in ("before", "finetune", "after"))
    if before is None or tuned is None or after is None:
        return [name, budget, found.get("refused", "not done"), "", "", "", wrote(name)]
    latency = (ledger.get(together(study, budget)) or {}).get(f"{key}/{study.args.epochs}", after)
    shared = {"hant": study.preparation(), ZERO_SHOT: study.preparation(ZERO_SHOT), "random": study.preparation()}
    once = f" + {shared[name]:.0f} once" if name in shared else ""
    return [
        name,
        budget,
        interval(latency, "teacher"),
        f"{before['accuracy']:.2f}",
        f"{after['accuracy']:.2f}",
        f"{found['cpu_seconds']:.0f}{once}",
        wrote(name),
    ]


def write_results(study: Study) -> None:
    args = study.args
    teacher = (study.ledger.get("teacher") or {}).get("accuracy", float("nan"))
    print_table(
        f"{args.teacher} ({teacher:.2f} %), pool {args.pool}, {study.treatment}",
        ("method", "budget", "latency to teacher (99 %)", "top-1 before", "after", "search, CPU s", "the user writes"),
        [row(study, name, budget) for budget in budgets(study) for name in args.methods.split(",")],
    )
    for name, peer in PEERS.items():
        if name in args.methods and absent(peer):
            print(f"\n{name} was left out: {absent(peer)}")


def main() -> None:
    parser = common_options(__doc__)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--fastnas-images", type=int, default=results_channels.FASTNAS_IMAGES, help="of FastNAS")
    run_study(parser, steps, write_results)


if __name__ == "__main__":
    main()
