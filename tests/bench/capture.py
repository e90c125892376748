"""Measure capture on whole families of networks.

python tests/bench/capture.py families --out runs/families.jsonl
python tests/bench/capture.py variants torchvision
python tests/bench/capture.py table runs/families.jsonl
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
import hant
from capture_zoo import FAMILIES, TORCHVISION, VARIANTS  # type: ignore[import-not-found]


def randomise(model: nn.Module) -> None:
    """Give every parameter and statistic a value that matters: zero-initialised layers make comparisons vacuous."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            fan = p[0].numel() if p.dim() > 1 else 1
            p.copy_(torch.randn(p.shape, generator=generator) * 0.5 / fan**0.5 + (1 if p.dim() == 1 else 0))
        for b in model.buffers():
            if b.is_floating_point() and b.dim() == 1:
                b.copy_(torch.rand(b.shape, generator=generator) + 0.5)


def networks(what: str) -> list[tuple[str, str, str, int | None, str]]:
    """Return (family, model, submodule, size, expected classes)."""
    if what == "families":
        return [(f, m, "", size, expected) for f, (m, size, expected) in FAMILIES.items()]
    if what == "variants":
        return [(m, m, "", None, "") for m in VARIANTS]
    return [(m, f"torchvision:{m}", sub, size, "") for m, (sub, size) in TORCHVISION.items()]


def build(name: str, size: int | None) -> tuple[nn.Module, tuple[int, ...]]:
    if name.startswith("torchvision:"):
        import torchvision

        name = name.removeprefix("torchvision:")
        kwargs: dict[str, Any] = {"weights": None}
        if any(w in name for w in ("rcnn", "retina", "fcos", "ssd", "deeplab", "fcn", "lraspp")):
            kwargs["weights_backbone"] = None
        if name in ("googlenet", "inception_v3"):
            kwargs["init_weights"] = False
        return torchvision.models.get_model(name, **kwargs), (3, size or 224, size or 224)
    import timm

    model = timm.create_model(name)
    shape = tuple(model.pretrained_cfg["input_size"])
    if size is not None and size != shape[1]:
        shape = (3, size, size)
        for extra in ({"img_size": size}, {}):
            try:
                model = timm.create_model(name, **extra)
                break
            except TypeError:
                continue
    return model, shape


def flat(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    return [t for item in items for t in flat(item)]


def same(a: Any, b: Any) -> bool:
    x, y = flat(a), flat(b)
    return len(x) == len(y) and all(torch.equal(p.nan_to_num(), q.nan_to_num()) for p, q in zip(x, y, strict=True))


def measure(family: str, name: str, submodule: str, size: int | None, expected: str) -> dict[str, Any]:
    model, shape = build(name, size)
    model = model.get_submodule(submodule)
    randomise(model)
    model.eval()
    row: dict[str, Any] = {"family": family, "model": name.removeprefix("torchvision:")}
    start = time.process_time()
    graph = hant.trace(model, torch.zeros(1, *shape))
    row["seconds"] = time.process_time() - start
    for batch in (2, 1):
        x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            row[f"exact_batch_{batch}"] = same(model(x), graph.module(x))
    row["exact_train"] = exact_in_training(model, graph, shape)
    blocks = [b for b in graph.blocks if b.kind not in ("stem", "head")]
    named = [b for b in blocks if b.class_name != "Run"]
    row |= {
        "blocks": len(blocks),
        "named": len(named),
        "swaps": sum(b.target == b.name for b in graph.blocks),
        "sites": len(graph.blocks),
        "identity": sum(b.identity_allowed for b in blocks),
        "coverage_named": sum(b.macs for b in named) / max(1, graph.macs),
        "coverage": sum(b.macs for b in graph.blocks) / max(1, graph.macs),
        "largest": max((b.macs for b in graph.blocks), default=0) / max(1, graph.macs),
        "classes": sorted({b.class_name for b in named}),
        "diagnostics": [str(d) for d in graph.diagnostics],
    }
    if expected:
        wanted = [n for n, m in model.named_modules() if re.fullmatch(expected, type(m).__name__) and holds_work(m)]
        wanted = [n for n in wanted if not any(n.startswith(f"{o}.") for o in wanted)]
        found = {b.name for b in graph.blocks}
        row |= {"expected": len(wanted), "found": sum(n in found for n in wanted)}
        row["missed"] = [n for n in wanted if n not in found][:6]
    return row


def holds_work(module: nn.Module) -> bool:
    return sum(p.dim() > 1 for p in module.parameters()) >= 1


def exact_in_training(model: nn.Module, graph: hant.Graph, shape: tuple[int, ...]) -> bool:
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(5))
    saved = copy.deepcopy(model.state_dict())
    results = []
    for network in (model, graph.module):
        model.load_state_dict(saved)
        model.train()
        network.train()
        torch.manual_seed(3)
        with torch.no_grad():
            results.append(network(x))
    model.load_state_dict(saved)
    model.eval()
    return same(*results)


def table(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    good = [r for r in rows if "error" not in r]
    print("| family | model | s | exact (batch 2, 1, train) | blocks | expected found | in blocks | largest |")
    print("|---|---|---:|---|---:|---:|---:|---:|")
    for r in rows:
        if "error" in r:
            print(f"| {r['family']} | {r['model']} | - | {r['error'][:80]} | | | | |")
            continue
        exact = ", ".join("yes" if r[k] else "**no**" for k in ("exact_batch_2", "exact_batch_1", "exact_train"))
        hits = f"{r['found']}/{r['expected']}" if "found" in r else ""
        print(
            f"| {r['family']} | {r['model']} | {r['seconds']:.1f} | {exact} | {r['named']} | {hits} "
            f"| {r['coverage_named']:.2f} | {r['largest']:.2f} |"
        )
    hits, wanted = sum(r.get("found", 0) for r in good), sum(r.get("expected", 0) for r in good)
    print(
        f"\ncaptured {len(good)}/{len(rows)}; exact at batch 2 {sum(r['exact_batch_2'] for r in good)}, "
        f"batch 1 {sum(r['exact_batch_1'] for r in good)}, in training {sum(r['exact_train'] for r in good)}; "
        f"expected found {hits}/{wanted}; median share in blocks "
        f"{statistics.median(r['coverage_named'] for r in good):.3f}; seconds median "
        f"{statistics.median(r['seconds'] for r in good):.2f}, most {max(r['seconds'] for r in good):.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["families", "variants", "torchvision", "table"])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if options.what == "table":
        table(options.file)
        return
    for entry in networks(options.what):
        if options.only and not re.search(options.only, entry[0]):
            continue
        try:
            row = measure(*entry)
        except Exception as error:
            row = {"family": entry[0], "model": entry[1], "error": f"{type(error).__name__}: {error}"}
        line = json.dumps(row)
        print(line, flush=True)
        if options.out is not None:
            with options.out.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
