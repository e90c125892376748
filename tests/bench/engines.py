"""Engines of TensorRT-RTX for every operation of a pool, built without a GPU: what its builder refuses, and how long.

Every operation that fits a block of the given shape (same input and output) is exported at batch 1, prepared, and built
for each compute capability by itself. Seconds are of the processor: building alone, the export left out. Results are
appended to a file of JSON lines, so the work can be stopped and taken up again. ``--report`` prints the table of
docs/latency.md.

    python tests/bench/engines.py --output engines.jsonl
    python tests/bench/engines.py --output engines.jsonl --report
    python tests/bench/engines.py --network runs/digits/student.onnx   # a whole network, as a run exports it
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import hant
import onnx
import torch
from hant.backends.onnx.chain import export_chains
from hant.backends.tensorrt.build import build_engine
from hant.backends.tensorrt.prepare import prepare
from hant.op_library.op_spec import OpSpec
from hant.op_library.tensor_spec import TensorSpec
from hant.transformer.contracts.target import Target
from hant.transformer.errors import CaptureError

GROUP = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", default="hant-197")
    parser.add_argument("--shape", default="32x14x14", help="of the block's input and output, CxHxW")
    parser.add_argument("--precision", default="fp16", choices=("fp32", "fp16"))
    parser.add_argument("--capability", action="append", help="compute capability; default: 8.6 and 12.0")
    parser.add_argument("--output", type=Path, default=Path("engines.jsonl"))
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--network", type=Path, action="append", help="ONNX file to build instead of operations")
    options = parser.parse_args()
    capabilities = options.capability or ["8.6", "12.0"]
    if options.network:
        networks(options.network, options.precision, capabilities)
        return
    if options.report:
        report([json.loads(line) for line in options.output.read_text().splitlines()])
        return
    known = options.output.read_text().splitlines() if options.output.exists() else []
    done = {json.loads(line)["operation"] for line in known}
    tensor = TensorSpec(tuple(int(size) for size in options.shape.split("x")))
    todo = [spec for spec in hant.pool(options.pool) if spec.name not in done]
    with options.output.open("a") as file:
        for row in rows(todo, tensor, options.precision, capabilities):
            file.write(json.dumps(row) + "\n")
            file.flush()


def networks(files: list[Path], precision: str, capabilities: list[str]) -> None:
    print("| network | compute capability | precision | s | kB |\n|---|---:|---|---:|---:|")
    for file in files:
        model = prepare(onnx.load(file))
        for capability in capabilities:
            built = build(model, precision, capability)
            size = built.get("refused") or f"{built['bytes'] / 1e3:.0f}"
            print(f"| {file} | {capability} | {precision} | {built['seconds']:.2f} | {size} |", flush=True)


def rows(specs: list[OpSpec], tensor: TensorSpec, precision: str, capabilities: list[str]) -> Iterator[dict[str, Any]]:
    fitting = []
    for spec in specs:
        reason = spec.unfit(tensor, tensor)
        if spec.name == "teacher":
            reason = "it is the block's own, of which there is none here"
        if reason is None:
            fitting.append(spec)
        else:
            yield {"operation": spec.name, "unfit": reason}
    for start in range(0, len(fitting), GROUP):
        group = fitting[start : start + GROUP]
        torch.manual_seed(0)
        modules = [spec.build(tensor, tensor).eval() for spec in group]
        graphs = export_chains(modules, [torch.randn(1, *tensor.shape)] * len(group))
        for spec, graph in zip(group, graphs, strict=True):
            if isinstance(graph, CaptureError):
                yield {"operation": spec.name, "unexported": str(graph)}
            else:
                model = prepare(graph)
                built = {capability: build(model, precision, capability) for capability in capabilities}
                yield {"operation": spec.name, "precision": precision, "engines": built}


def build(model: onnx.ModelProto, precision: str, capability: str) -> dict[str, Any]:
    """Return seconds of the processor and bytes of an engine, or why there is none."""
    target = Target(
        name=f"sm{capability}",
        backend="tensorrt",
        device="cuda",
        precision=precision,
        options={"flavour": "tensorrt-rtx", "compute_capabilities": [capability]},
    )
    start = time.process_time()
    try:
        size = len(build_engine(model, target))
    except CaptureError as error:
        return {"seconds": time.process_time() - start, "refused": str(error)}
    return {"seconds": time.process_time() - start, "bytes": size}


def report(rows: list[dict[str, Any]]) -> None:
    reasons: dict[str, list[str]] = defaultdict(list)
    engines: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        for key in ("unfit", "unexported"):
            if key in row:
                reasons[f"{key}: {row[key]}"].append(row["operation"])
        for capability, engine in row.get("engines", {}).items():
            engines[capability].append(engine)
            if "refused" in engine:
                words = re.sub(r"'[^']*'", "'...'", engine["refused"])  # the node's name
                reasons[f"SM {capability}: {words}"].append(row["operation"])
    print(f"{len(rows)} operations\n")
    print("| compute capability | built | refused | s per engine, median | longest | in all | kB, median |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for capability, found in engines.items():
        seconds = [engine["seconds"] for engine in found]
        sizes = [engine["bytes"] for engine in found if "bytes" in engine]
        cells = (f"{median(seconds):.2f}", f"{max(seconds):.2f}", f"{sum(seconds):.0f}", f"{median(sizes) / 1e3:.0f}")
        print(f"| {capability} | {len(sizes)} | {len(found) - len(sizes)} | {' | '.join(cells)} |")
    for reason, names in sorted(reasons.items()):
        print(f"\n{len(names)} x {reason}\n  {', '.join(names)}")


if __name__ == "__main__":
    main()
