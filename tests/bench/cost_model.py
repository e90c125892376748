"""The cost model against published latencies: fit, errors of each table, errors on families that were left out.

    python tests/bench/cost_model.py                # what the constants that come with hant do
    python tests/bench/cost_model.py --fit          # fit again, and leave each family out once
    python tests/bench/cost_model.py --networks     # the error of each network as well
    python tests/bench/cost_model.py --fit --silu alone --data-sheet    # what was tried and is worse

Needs timm. Kernels of the networks are kept in ``--cache``, so that only the first call takes minutes. Prints Markdown.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import timm
import torch
from hant.backends.cost_model.constants import Constants, constants
from hant.backends.cost_model.device import Device, device_of
from hant.backends.cost_model.estimate import kernels
from hant.backends.cost_model.fuse import EAGER, TENSORRT, TENSORRT_7, Fusion
from hant.backends.cost_model.kernel import Kernel, Kind
from hant.backends.cost_model.roofline import Columns, columns, network_ms
from hant.backends.targets.load import load_target
from scipy.optimize import least_squares
from scipy.stats import spearmanr
from torch import Tensor, nn

DATA = Path(__file__).with_name("data") / "published_latencies.csv"
TARGETS = {("V100", "pytorch"): "v100-torch", ("V100", "tensorrt"): "v100-trt", ("T4", "tensorrt"): "t4-trt"}
START = {
    "product": 0.6, "start": 64.0, "reuse": 16.0, "depthwise": 0.3, "memory": 0.85, "depthwise_memory": 0.6,
    "reduce_memory": 0.3, "kernel_us": 5.0, "issue_us": 40.0,
}  # fmt: skip
LEAST = {
    "product": 0.2, "start": 1.0, "reuse": 1.0, "depthwise": 0.02, "memory": 0.2, "depthwise_memory": 0.1,
    "reduce_memory": 0.03, "kernel_us": 1.0, "issue_us": 5.0,
}  # fmt: skip
MOST = {
    "product": 0.95, "start": 500.0, "reuse": 60.0, "depthwise": 1.0, "memory": 0.95, "depthwise_memory": 0.95,
    "reduce_memory": 0.95, "kernel_us": 50.0, "issue_us": 100.0,
}  # fmt: skip
FREE = {"pytorch": [n for n in START if n != "depthwise_memory"], "tensorrt": [n for n in START if n != "issue_us"]}
"""What is fitted; what is not, stays at its start (issue_us at 0)."""
PULL = 0.05  # of the logarithm of a constant to its start
SOFT = 0.1  # errors above this share count less than by their square


@dataclass(frozen=True, eq=False)
class Row:
    """A published latency with what the cost model needs to predict it."""

    table: str
    network: str
    family: str
    batch: int
    ms: float
    runtime: str
    columns: Columns
    device: Device


class Swish(nn.Module):
    """SiLU as networks had it before PyTorch 1.7: two kernels."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


def fusion_of(entry: dict[str, str], silu: str) -> tuple[str, Fusion, bool]:
    """Return (name, fusion, whether SiLU is two operations): GENet's tables are of 2020, HANT's of 2021."""
    old = entry["paper"] == "GENet"
    if entry["runtime"] == "pytorch":
        return ("eager-1.6" if old else "eager", EAGER, old)
    alone = old if silu == "then" else silu == "alone"
    return ("tensorrt-7", TENSORRT_7, False) if alone else ("tensorrt", TENSORRT, False)


def without_silu(module: nn.Module) -> nn.Module:
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, nn.SiLU):
                setattr(part, name, Swish())
    return module


def features(entries: Sequence[dict[str, str]], cache: Path, silu: str) -> Callable[[dict[str, str]], list[Kernel]]:
    """Return the kernels of an entry's network for one image, walked once and kept as JSON."""
    known = json.loads(cache.read_text()) if cache.is_file() else {}

    def name_of(entry: dict[str, str]) -> str:
        return f"{entry['arch']}@{entry['resolution']}/{fusion_of(entry, silu)[0]}"

    for entry in entries:
        if name_of(entry) not in known:
            _, fusion, two = fusion_of(entry, silu)
            model = timm.create_model(entry["arch"]).eval()
            image = torch.empty(1, 3, int(entry["resolution"]), int(entry["resolution"]))
            found = kernels(without_silu(model) if two else model, [image], fusion)
            known[name_of(entry)] = [asdict(kernel) for kernel in found]
            cache.parent.mkdir(parents=True, exist_ok=True)
            cache.write_text(json.dumps(known))
    return lambda entry: [Kernel(**{**one, "kind": Kind(one["kind"])}) for one in known[name_of(entry)]]


def read(cache: Path, least_batch: int, silu: str, data_sheet: bool) -> list[Row]:
    lines = [line for line in DATA.read_text().splitlines() if not line.startswith("#")]
    entries = [entry for entry in csv.DictReader(lines) if int(entry["batch"]) >= least_batch]
    kernels_of, rows = features(entries, cache, silu), []
    for entry in entries:
        batch, runtime = int(entry["batch"]), entry["runtime"]
        target = load_target(TARGETS[entry["device"], runtime])
        facts = target.facts | ({"sustained_gb_s": target.facts["bandwidth_gb_s"]} if data_sheet else {})
        target = target.model_copy(update={"precision": entry["precision"], "facts": facts})
        device = device_of(target)
        ms = float(entry["latency"]) * (batch if entry["unit"] == "ms/image" else 1)
        table = f"{entry['paper']} {entry['table']}: {entry['device']} {runtime} {entry['precision']}"
        cols = columns([kernel.scaled(batch) for kernel in kernels_of(entry)])
        rows.append(Row(table, entry["network"], entry["family"], batch, ms, runtime, cols, device))
    return rows


def fit(rows: Sequence[Row]) -> Constants:
    """Return the constants of the least robust errors of log latency."""
    names = FREE[rows[0].runtime]
    fixed = {"issue_us": 0.0} if rows[0].runtime == "tensorrt" else {}
    start, low, high = (np.log([values[name] for name in names]) for values in (START, LEAST, MOST))
    measured = np.log([row.ms for row in rows])

    def made(x: np.ndarray) -> Constants:
        values = START | fixed | dict(zip(names, map(float, np.exp(x)), strict=True))
        return Constants(source="", median_error=1, **values)

    def errors(x: np.ndarray) -> np.ndarray:
        return np.concatenate([np.log(predict(rows, made(x))) - measured, PULL * (x - start)])

    found = least_squares(errors, start, bounds=(low, high), loss="soft_l1", f_scale=SOFT, diff_step=0.01, max_nfev=40)
    return made(found.x)


def predict(rows: Sequence[Row], fitted: Constants) -> np.ndarray:
    return np.array([network_ms(row.columns, row.device, fitted) for row in rows])


def left_out(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Return the errors of each family with constants fitted on the others."""
    found = {}
    for family in sorted({row.family for row in rows}):
        rest = [row for row in rows if row.family != family]
        own = [row for row in rows if row.family == family]
        found[family] = predict(own, fit(rest)) / [row.ms for row in own] - 1
    return found


def show_tables(rows: Sequence[Row], fitted: Constants, networks: bool) -> None:
    by_table: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_table[row.table].append(row)
    for table, some in by_table.items():
        predicted, measured = predict(some, fitted), np.array([row.ms for row in some])
        batch, error = np.array([row.batch for row in some]), np.abs(predicted / measured - 1)
        usual = np.array([row.family != "regnet" for row in some])

        def rank(where: np.ndarray, p: np.ndarray = predicted / batch, m: np.ndarray = measured / batch) -> float:
            return cast(float, spearmanr(p[where], m[where]).statistic)

        print(
            f"| {table} | {len(some)} | {rank(measured > 0):.3f} | {rank(usual):.3f} | "
            f"{100 * np.median(error):.1f} % | {100 * np.quantile(error, 0.9):.1f} % |"
        )
        if networks:
            show_networks(some, predicted)


def show_networks(rows: Sequence[Row], predicted: np.ndarray) -> None:
    errors: dict[str, list[str]] = defaultdict(list)
    for row, ms in zip(rows, predicted, strict=True):
        errors[row.network].append(f"{100 * (ms / row.ms - 1):+.0f} % at {row.batch}")
    for name, texts in errors.items():
        print(f"    {name}: {', '.join(texts)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("runs/cost-model/kernels.json"))
    parser.add_argument("--least-batch", type=int, default=16)
    parser.add_argument("--fit", action="store_true", help="fit again, and leave each family out once")
    parser.add_argument("--networks", action="store_true", help="show each network's errors")
    parser.add_argument(
        "--silu", choices=["then", "alone", "joined"], default="then", help="TensorRT's SiLU: as of its time"
    )
    parser.add_argument("--data-sheet", action="store_true", help="take the data sheet's bandwidth as sustained")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = read(args.cache, args.least_batch, args.silu, args.data_sheet)
    fitted = {}
    for runtime in ("pytorch", "tensorrt"):
        some = [row for row in rows if row.runtime == runtime]
        fitted[runtime] = fit(some) if args.fit else constants(runtime)
    print("| published table | latencies | Spearman | without RegNetY | median error | 90 % within |")
    print("|---|---:|---:|---:|---:|---:|")
    for runtime, found in fitted.items():
        show_tables([row for row in rows if row.runtime == runtime], found, args.networks)
    for runtime, found in fitted.items() if args.fit else ():
        print(f"\n[{runtime}]")
        for name, value in found.model_dump(exclude={"source", "median_error"}).items():
            print(f"{name} = {value:.3g}")
        errors = left_out([row for row in rows if row.runtime == runtime])
        each = ", ".join(f"{family} {100 * np.median(abs(error)):.0f} %" for family, error in errors.items())
        print(f"median_error = {np.median(abs(np.concatenate(list(errors.values())))):.3f}  # left out: {each}")


if __name__ == "__main__":
    main()
