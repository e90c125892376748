"""Every operation of a pool on every block of real teachers: build, run, train one step, export, or a reason.

Teachers come from timm with random weights. Blocks with one input and output contract are tried once and counted as
often as they occur. Results are appended to a file of JSON lines, so the work can be stopped and taken up again, and
shared: ``--share 1/2`` and ``--share 2/2`` do one half each. ``--report`` prints the table of docs/operations.md.

    python tests/bench/operations_coverage.py --input 64 --output coverage.jsonl
    python tests/bench/operations_coverage.py --output coverage.jsonl --report
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hant
import numpy as np
import onnxruntime
import timm
import torch
from hant.op_library.cost import parameters
from hant.op_library.op_spec import OpSpec
from hant.op_library.reparameterise import Branches, fuse
from torch import Tensor, nn

TEACHERS = ("resnet18", "efficientnet_b0", "tf_efficientnetv2_b0", "resnest50d_1s4x24d")
GROUP_PARAMETERS = 20_000_000
GROUP_SIZE = 28


class Side(nn.Module):
    """Several operations on one input, exported together: one export costs little more than that of one."""

    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        self.operations = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(operation(x) for operation in self.operations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", action="append", help="timm model; default: " + ", ".join(TEACHERS))
    parser.add_argument("--pool", default="hant-197")
    parser.add_argument("--input", type=int, default=64, help="height and width of the image")
    parser.add_argument("--output", type=Path, default=Path("coverage.jsonl"))
    parser.add_argument("--share", default="1/1", help="which part of the blocks, such as 2/3")
    parser.add_argument("--no-export", action="store_true", help="stop after the training step")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if options.report:
        report(options.output)
        return
    torch.set_num_threads(1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    done = {(row["border"], row["operation"]) for row in rows(options.output)}
    index, of = map(int, options.share.split("/"))
    for number, (teachers, x, target, block) in enumerate(borders(options.teacher or TEACHERS, options.input)):
        if number % of != index - 1:
            continue
        border = f"{block.input}->{block.output}"
        pool = [spec for spec in hant.pool(options.pool) if (border, spec.name) not in done]
        start = time.perf_counter()
        with options.output.open("a") as file:
            for row in try_border(pool, block, x, target, not options.no_export):
                file.write(json.dumps({"border": border, "blocks": teachers} | row) + "\n")
                file.flush()
        print(f"{border} {teachers} {len(pool)} operations {time.perf_counter() - start:.0f} s", flush=True)


def borders(teachers: tuple[str, ...], size: int) -> Iterator[tuple[dict[str, int], Tensor, Tensor, Any]]:
    """Yield, for each distinct contract, blocks per teacher, a real input and output of batch 2, and a block."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    first: dict[str, tuple[Tensor, Tensor, Any]] = {}
    for name in teachers:
        torch.manual_seed(0)
        graph = hant.trace(timm.create_model(name).eval(), (torch.randn(2, 3, size, size),))

        def see(block: Any, x: Tensor, y: Tensor, name: str = name) -> None:
            if block.replaceable:
                key = f"{block.input}->{block.output}"
                counts[key][name] += 1
                first.setdefault(key, (x.clone(), y.clone(), block))

        with torch.no_grad(), graph.observe(see):
            graph.module(torch.randn(2, 3, size, size))
    for key in first:
        yield dict(counts[key]), *first[key]


def try_border(pool: list[OpSpec], block: Any, x: Tensor, target: Tensor, exports: bool) -> Iterator[dict[str, Any]]:
    group: list[tuple[OpSpec, nn.Module]] = []
    for spec in pool:
        reason = spec.unfit(block.input, block.output)
        if reason is not None:
            yield {"operation": spec.name, "state": "unfit", "reason": reason}
            continue
        try:
            module = block.module if spec.name == "teacher" else train(spec, block, x, target)
        except Exception as error:
            yield {"operation": spec.name, "state": "failed", "reason": f"{type(error).__name__}: {error}"}
            continue
        if not exports:
            yield {"operation": spec.name, "state": "trained", "reason": ""}
            continue
        group.append((spec, module.eval()))
        size = sum(parameters(part) for _, part in group)
        if size > GROUP_PARAMETERS or len(group) == GROUP_SIZE:
            yield from export(group, x)
            group = []
    if group:
        yield from export(group, x)


def train(spec: OpSpec, block: Any, x: Tensor, target: Tensor) -> nn.Module:
    """Build, run and train one step towards the teacher's block; gradients and the new loss must be finite numbers.

    The loss may rise by 1 %: a step can overshoot where batch norms see 8 values (maps of 2x2).
    """
    torch.manual_seed(0)
    module = spec.build(block.input, block.output)
    if not list(module.parameters()):
        assert module(x).shape == target.shape
        return module
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
    return module


def export(group: list[tuple[OpSpec, nn.Module]], x: Tensor) -> Iterator[dict[str, Any]]:
    """Export the group together; one by one where that fails, to know which operation it is."""
    try:
        worst = compare([fuse(module) if _branched(module) else module for _, module in group], x)
    except Exception as error:
        if len(group) == 1:
            reason = f"{type(error).__name__}: {str(error)[:300]}"
            yield {"operation": group[0][0].name, "state": "failed", "reason": reason}
            return
        for single in group:
            yield from export([single], x)
        return
    for (spec, _), difference in zip(group, worst, strict=True):
        state = "done" if difference <= 1e-4 else "failed"
        yield {"operation": spec.name, "state": state, "reason": "", "difference": difference}


def _branched(module: nn.Module) -> bool:
    return any(isinstance(part, Branches) for part in module.modules())


def compare(modules: list[nn.Module], x: Tensor) -> list[float]:
    """Return each operation's largest difference between ONNX Runtime and torch, over outputs of size 1 or more."""
    side = Side(modules).eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.onnx.export(side, (x,), dynamo=True, verbose=False, dynamic_shapes=({0: batch},))
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        if sum(parameters(module) for module in modules) * 4 < 2**30:
            buffer = io.BytesIO()
            program.save(buffer)  # type: ignore[arg-type]
            file: Any = buffer.getvalue()
        else:
            file = str(Path(folder) / "model.onnx")
            program.save(file, external_data=True)
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    worst = [0.0] * len(modules)
    for rows_ in (1, 2):
        with torch.no_grad():
            expected = side(x[:rows_])
        got = session.run(None, {session.get_inputs()[0].name: x[:rows_].numpy()})
        for place, (ours, theirs) in enumerate(zip(expected, got, strict=True)):
            scale = max(1.0, float(ours.abs().max()))
            worst[place] = max(worst[place], float(np.abs(ours.numpy() - theirs).max()) / scale)
    return worst


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def report(path: Path) -> None:
    pairs: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: Counter[str] = Counter()
    worst = 0.0
    for row in rows(path):
        worst = max(worst, row.get("difference", 0.0))
        for teacher, blocks in row["blocks"].items():
            pairs[teacher][row["state"]] += blocks
            if row["state"] in ("unfit", "failed"):
                reasons[f"{row['operation'].split('_')[0]}: {row['reason']}"[:110]] += blocks
    print("| teacher | blocks | block x operation | trained and exported | trained | with a reason | failed |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for teacher, states in pairs.items():
        total = sum(states.values())
        counts = [states[state] for state in ("done", "trained", "unfit", "failed")]
        print("|", " | ".join(map(str, [teacher, f"{total / 197:g}", total, *counts])), "|")
    print(f"\nlargest difference {worst:.1e}")
    for reason, count in reasons.most_common(40):
        print(count, reason)


if __name__ == "__main__":
    main()
