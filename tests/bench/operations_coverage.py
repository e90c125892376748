"""Every operation of a pool on every block of real teachers: build, run, train one step, export, or a reason.

Teachers come from timm with random weights. Blocks of one input, output and end are tried once and counted as often as
they occur; a teacher's own block once for each structure. Operations go through the exporter together, as in a run's
profile, so one costs 0.2 s instead of 0.7; where that fails, the exporter finds the one that is to blame by halving.
Results are appended to a file of JSON lines, so the work can be stopped and taken up again (what failed is tried anew),
and shared: ``--share 1/2`` and ``--share 2/2`` do one half each. ``--report`` prints the table of docs/operations.md.

    python tests/bench/operations_coverage.py --input 64 --output coverage.jsonl
    python tests/bench/operations_coverage.py --output coverage.jsonl --report
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hant
import numpy as np
import onnx
import onnxruntime
import timm
import torch
from hant.backends.onnx.export import export_many
from hant.op_library.activations import final
from hant.op_library.cost import parameters
from hant.op_library.op_spec import OpSpec
from hant.op_library.reparameterise import Branches
from hant.passes.candidates.build import build_candidate
from hant.transformer.errors import CaptureError
from hant.transformer.ir.block import Block
from hant.transformer.rewrite.deploy import deploy
from torch import Tensor, nn

TEACHERS = ("resnet18", "efficientnet_b0", "tf_efficientnetv2_b0", "resnest50d_1s4x24d")
GROUP_PARAMETERS = 60_000_000
GROUP_SIZE = 40
Row = dict[str, Any]


@dataclass
class Border:
    """What is tried once for all blocks that are alike."""

    key: str
    operations: tuple[OpSpec, ...]
    block: Block
    x: Tensor
    y: Tensor
    """A real input and output of the block, batch 2."""
    blocks: Counter[str] = field(default_factory=Counter)
    """How many blocks that are, by teacher."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", action="append", help="timm model; default: " + ", ".join(TEACHERS))
    parser.add_argument("--pool", default="hant-197")
    parser.add_argument("--input", type=int, default=64, help="height and width of the image")
    parser.add_argument("--output", type=Path, default=Path("coverage.jsonl"))
    parser.add_argument("--share", default="1/1", help="which part of the blocks, such as 2/3")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if options.report:
        report(options.output)
        return
    torch.set_num_threads(1)
    gc.disable()  # a tenth of the exporter's time; done by hand after each group
    known, done = read(options.output)
    index, of = map(int, options.share.split("/"))
    todo = borders(options.teacher or TEACHERS, options.input, hant.pool(options.pool))[index - 1 :: of]
    with options.output.open("a") as file:

        def write(row: Row) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        for border in todo:
            if border.key not in known:
                write({"border": border.key, "blocks": border.blocks, "operations": len(border.operations)})
        for border in todo:
            started = time.perf_counter()
            kept = {name for (key, name), row in done.items() if key == border.key and row["state"] != "failed"}
            pool = [spec for spec in border.operations if spec.name not in kept]
            for row in attempt(border, pool):
                write({"border": border.key} | row)
            print(
                f"{border.key} {dict(border.blocks)} {len(pool)} in {time.perf_counter() - started:.0f} s", flush=True
            )


def borders(teachers: Sequence[str], size: int, pool: Sequence[OpSpec]) -> list[Border]:
    """Return what is to be tried: contracts for all operations, structures for the teacher's own."""
    found: dict[str, Border] = {}
    own = tuple(spec for spec in pool if spec.name == "teacher")
    others = tuple(spec for spec in pool if spec.name != "teacher")
    for name in teachers:
        torch.manual_seed(0)
        graph = hant.trace(timm.create_model(name).eval(), (torch.randn(2, 3, size, size),))

        def see(block: Block, x: Tensor, y: Tensor, name: str = name) -> None:
            if not block.replaceable:
                return
            contract = f"{block.input}->{block.output} {final(block.module)}"
            for key, specs in ((contract, others), (f"teacher {block.signature}", own)):
                border = found.setdefault(key, Border(key, specs, block, x.clone(), y.clone()))
                border.blocks[name] += 1

        with torch.no_grad(), graph.observe(see):
            graph.module(torch.randn(2, 3, size, size))
    return list(found.values())


def attempt(border: Border, pool: Iterable[OpSpec]) -> Iterator[Row]:
    """Yield one row an operation."""
    group: dict[str, nn.Module] = {}
    for spec in pool:
        reason = spec.unfit(border.block.input, border.block.output)
        if reason is not None:
            yield {"operation": spec.name, "state": "unfit", "reason": reason}
            continue
        try:
            module = build_candidate(border.block, spec, 0)
            if spec.name != "teacher":
                train(module, border.x, border.y)
        except Exception as error:  # whatever an operation raises is what we are looking for
            yield {"operation": spec.name, "state": "failed", "reason": f"{type(error).__name__}: {error}"[:300]}
            continue
        group[spec.name] = module.eval()
        if sum(map(parameters, group.values())) > GROUP_PARAMETERS or len(group) == GROUP_SIZE:
            yield from export(group, border.x)
            group = {}
    yield from export(group, border.x)


def train(module: nn.Module, x: Tensor, target: Tensor) -> None:
    """Run and train one step towards the teacher's block; gradients and the new loss must be finite numbers.

    The loss may rise by 1 %: a step can overshoot where batch norms see 8 values (maps of 2x2).
    """
    if not list(module.parameters()):
        assert module(x).shape == target.shape
        return
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-4)
    before = (module(x) - target).square().mean()
    before.backward()
    missing = [name for name, value in module.named_parameters() if value.grad is None]
    assert not missing, f"no gradient for {missing}"
    norm = torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    assert norm.isfinite(), "gradient is not finite"
    optimizer.step()
    for value in module.parameters():
        value.grad = None
    with torch.no_grad():
        after = (module(x) - target).square().mean()
    assert after <= 1.01 * before, f"loss rose from {before:.6g} to {after:.6g}"


def export(group: dict[str, nn.Module], x: Tensor) -> Iterator[Row]:
    """Export the group together and compare each operation in ONNX Runtime."""
    if not group:
        return
    modules = [deploy(module) if _branched(module) else module for module in group.values()]
    graphs = export_many(modules, [x] * len(modules))
    for name, module, graph in zip(group, modules, graphs, strict=True):
        if isinstance(graph, CaptureError):
            yield {"operation": name, "state": "failed", "reason": str(graph)[:300]}
            continue
        try:
            found = difference(module, graph, x)
        except Exception as error:  # ONNX Runtime's errors share no base class
            yield {"operation": name, "state": "failed", "reason": f"{type(error).__name__}: {error}"[:300]}
            continue
        state, reason = ("done", "") if found <= 1e-4 else ("failed", f"differs by {found:.1e}")
        yield {"operation": name, "state": state, "reason": reason, "difference": found}
    del graphs
    gc.collect()


def _branched(module: nn.Module) -> bool:
    return any(isinstance(part, Branches) for part in module.modules())


def difference(module: nn.Module, graph: onnx.ModelProto, x: Tensor) -> float:
    """Return the largest difference between ONNX Runtime and torch, over the largest output or 1."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_prepacking", "1")  # it runs once
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        ours = module(x).numpy()
    (theirs,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return float(np.abs(ours - theirs).max()) / max(1.0, float(np.abs(ours).max()))


def read(path: Path) -> tuple[dict[str, Row], dict[tuple[str, str], Row]]:
    """Return the borders by key, and the latest result of each operation."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    known = {row["border"]: row for row in lines if "blocks" in row}
    return known, {(row["border"], row["operation"]): row for row in lines if "operation" in row}


def report(path: Path) -> None:
    known, done = read(path)
    pairs: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: Counter[str] = Counter()
    for key, border in known.items():
        for teacher, blocks in border["blocks"].items():
            pairs[teacher]["blocks"] += blocks * key.startswith("teacher ")
            pairs[teacher]["all"] += blocks * border["operations"]
    for (key, operation), row in done.items():
        for teacher, blocks in known[key]["blocks"].items():
            pairs[teacher][row["state"]] += blocks
            if row["reason"]:
                reasons[f"{operation.split('_')[0]}: {row['reason']}"[:110]] += blocks
    print("| teacher | blocks | block x operation | trained and exported | with a reason | failed | not run |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for teacher, counts in pairs.items():
        ends = [counts[state] for state in ("done", "unfit", "failed")]
        print(
            "|", " | ".join(map(str, [teacher, counts["blocks"], counts["all"], *ends, counts["all"] - sum(ends)])), "|"
        )
    worst = max((row.get("difference", 0.0) for row in done.values()), default=0.0)
    print(f"\n{len(done)} different ones tried in {len(known)} places; largest difference {worst:.1e}")
    for reason, count in reasons.most_common(40):
        print(count, reason)


if __name__ == "__main__":
    main()
