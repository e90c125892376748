"""How well does local linear regression tell which structures are good? Random ones, each trained alike from nothing.

    hant-opt design genet:cifar --data cifar10:DIR --budget 1.0 -o runs/design
    python tests/bench/genet.py --run runs/design --structures 24 --epochs 8

Takes the planes of a finished design and draws structures from its box, the same for the same seed. Each is trained for
some epochs and evaluated on held-out images; a finished one is not trained again, so a stopped bench goes on. Prints
Kendall's tau of the predicted against the found accuracy, beside that of MACs and of parameters, and the planes' R2.
"""

from __future__ import annotations

import argparse
import random
import statistics
from pathlib import Path

import hant
import torch
from hant.op_library.cost import macs, parameters
from hant.op_library.structure import Structure, SuperBlockNetwork
from hant.op_library.tensor_spec import TensorSpec
from hant.passes.capturing.capture import CapturePass
from hant.passes.designing.design import predicted_change
from hant.passes.designing.master import master_of
from hant.passes.designing.perturb import PerturbPass
from hant.passes.designing.records import GradientRecord
from hant.passes.designing.space import Option, Place, places, structure_of
from hant.passes.designing.timing import shape_of
from hant.passes.designing.train import TrainPass
from hant.passes.ranking.records import FinalistRecord
from hant.transformer.contracts.context import Context
from scipy.stats import kendalltau


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a run of hant-opt design that has its planes")
    parser.add_argument("--structures", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def drawn(found: tuple[Place, ...], count: int, seed: int) -> list[list[Option]]:
    """Return random structures of the box, one option a place."""
    chance = random.Random(seed)
    return [[chance.choice(place.options) for place in found] for _ in range(count)]


def told(context: Context, found: tuple[Place, ...], structures: list[list[Option]]) -> dict[str, list[float]]:
    """Return what each predictor says of each structure, more being better."""
    gradients = context.store.all(GradientRecord)
    size = TensorSpec(tuple(context.example_inputs[0].shape[1:]))
    with torch.device("meta"):
        networks = [SuperBlockNetwork(structure_of(row), *shape_of_meta(context)) for row in structures]
    return {
        "loss by the planes": [-predicted_change(found, row, gradients, "loss") for row in structures],
        "accuracy by the planes": [predicted_change(found, row, gradients, "accuracy") for row in structures],
        "MACs": [float(macs(network, size)) for network in networks],
        "parameters": [float(parameters(network)) for network in networks],
    }


def shape_of_meta(context: Context) -> tuple[int, int]:
    """Return classes and channels, found outside of the meta device."""
    with torch.device("cpu"):
        return shape_of(context)


def trained(context: Context, structures: list[Structure], epochs: int) -> list[FinalistRecord]:
    """Return what each structure reaches from nothing."""
    way, weights = TrainPass(finalist_epochs=epochs, inherit=False), master_of(context)[1]
    found = []
    for place, structure in enumerate(structures, start=1):
        found.append(way.finalist(context, structure, weights))
        print(f"{place} of {len(structures)}: {found[-1].accuracy:.2f}  {structure}", flush=True)
    return found


def main() -> None:
    """Print the table."""
    asked = options()
    with hant.open_run(asked.run) as opened:
        context = hant.Pipeline([CapturePass()]).run(opened)
        box = box_of(asked.run)
        found = places(master_of(context)[0], box.box)
        structures = drawn(found, asked.structures, asked.seed)
        reached = [
            record.accuracy for record in trained(context, [structure_of(row) for row in structures], asked.epochs)
        ]
        print("| predictor | Kendall's tau |\n|---|---:|")
        for name, values in told(context, found, structures).items():
            print(f"| {name} | {kendalltau(values, reached).statistic:.3f} |")
        planes = list(context.store.all(GradientRecord).values())
        print("| planes | median R2 | left out | without offset |\n|---|---:|---:|---:|")
        for metric in ("loss", "accuracy"):
            fits = [getattr(plane, metric) for plane in planes]
            columns = [
                statistics.median(getattr(fit, name) for fit in fits) for name in ("r2", "r2_left_out", "r2_paper")
            ]
            print(f"| {metric} | " + " | ".join(f"{value:.2f}" for value in columns) + " |")


def box_of(run: Path) -> PerturbPass:
    """Return the pass with the options of the run, whose space it is."""
    from hant.transformer.pipeline.build import build_pipeline
    from hant.transformer.pipeline.config import make, read_stored

    stages = build_pipeline(make(read_stored(run), str(run))).passes
    return next(stage for stage in stages if isinstance(stage, PerturbPass))


if __name__ == "__main__":
    main()
