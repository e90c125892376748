"""Make the backbone of a torchvision detector faster, in place; the rest of the detector stays as it is.

The detector (SSDlite on MobileNetV3) has random weights and learns to find squares in generated pictures, so nothing is
downloaded. Then its backbone goes through hant with a task of our own: candidates are scored, and the student is
trained, by the detector's own loss.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import hant
import torch
from hant.passes.assemble import load_student
from hant.transformer.contracts.pass_ import Pass, PassResult
from hant.transformer.contracts.records import SelectionRecord, WinnerRecord
from hant.transformer.pipeline.build import build_pipeline
from hant.transformer.pipeline.config import make
from hant.transformer.pipeline.session import load_materials, open_run
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

SIDE = 96
"""Height and width of the pictures, in pixels."""
PASSES = ("capture", "candidates", "profile", "pretrain", "score", "select")


class Squares(torch.utils.data.Dataset[Any]):
    """Pictures of noise with one bright square each, and where it is."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(self._seed + index)
        image = 0.3 * torch.randn(3, SIDE, SIDE, generator=generator)
        side = int(torch.randint(24, 56, (1,), generator=generator))
        x, y = (int(torch.randint(SIDE - side, (1,), generator=generator)) for _ in range(2))
        image[:, y : y + side, x : x + side] += 1.5
        box = torch.tensor([[x, y, x + side, y + side]], dtype=torch.float32)
        return image, {"boxes": box, "labels": torch.ones(1, dtype=torch.int64)}


class Detection(hant.Task):
    """The detector's loss, from what a backbone makes of the images."""

    name = "ssdlite"

    def __init__(self, detector: nn.Module, distillation: float = 1.0) -> None:
        self._detector: Any = detector
        self._distillation = distillation

    def loss(self, outputs: Any, images: Tensor, targets: Any) -> Tensor:
        """Return the sum of the losses of boxes and classes."""
        features, detector = list(outputs.values()), self._detector
        sizes = [(SIDE, SIDE)] * len(images)
        anchors = detector.anchor_generator(ImageList(images, sizes), features)
        found = zip(targets, anchors, strict=True)
        matched = [detector.proposal_matcher(box_iou(target["boxes"], boxes)) for target, boxes in found]
        losses = detector.compute_loss(targets, detector.head(features), anchors, matched)
        return torch.stack(list(losses.values())).sum()

    def train_loss(self, student: nn.Module, teacher: nn.Module, images: Tensor, targets: Any) -> Tensor:
        """Return the loss of the student, and how far its features are from the teacher's."""
        ours = student(images)
        with torch.no_grad():
            theirs = teacher(images)
        far = [nn.functional.mse_loss(ours[name], theirs[name]) / theirs[name].var() for name in theirs]
        return self.loss(ours, images, targets) + self._distillation * torch.stack(far).mean()


@dataclass(frozen=True)
class FirstPass(Pass):
    """Take the selection that the integer program likes best; ranking is for classifiers."""

    name: ClassVar[str] = "first"
    requires: ClassVar[tuple[str, ...]] = ("selection",)
    ensures: ClassVar[tuple[str, ...]] = ("winner",)

    def run(self, context: hant.Context) -> PassResult:
        """Write the winner; its latency is an estimate, from the lookup table."""
        best = min(context.store.all(SelectionRecord).values(), key=lambda record: (record.objective, record.index))
        winner = WinnerRecord(
            index=best.index,
            choice=best.choice,
            objective=best.objective,
            bound=best.bound,
            predicted_ms=best.predicted_ms,
            measured_ms=best.predicted_ms,
            teacher_ms=best.predicted_ms,
        )
        context.store.put("winner", winner)
        return PassResult(notes=(f"selection {best.index}, predicted {best.predicted_ms:.4g} ms",))


def batches(count: int, size: int) -> Iterator[tuple[Tensor, list[dict[str, Tensor]]]]:
    """Yield training batches of new pictures."""
    for step in range(count):
        images, targets = zip(*(Squares(size, 1_000_000 + step * size)[i] for i in range(size)), strict=True)
        yield torch.stack(images), list(targets)


def train_detector(steps: int) -> nn.Module:
    """Return a detector that was trained for a moment."""
    torch.manual_seed(0)
    detector: nn.Module = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2)
    task, optimizer = Detection(detector), torch.optim.AdamW(detector.parameters(), lr=2e-3)
    backbone: Any = detector.backbone
    for images, targets in batches(steps, 16):
        optimizer.zero_grad()
        loss = task.loss(backbone(images), images, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    detector.eval()
    for parameter in detector.head.parameters():  # type: ignore[union-attr]
        parameter.requires_grad_(False)
    return detector


def optimise(detector: nn.Module, run: Path, budget: str, images: int, epochs: int) -> dict[str, str]:
    """Put a faster backbone into the detector; return the operation of each block."""
    backbone: Any = detector.backbone
    data = hant.Data(Squares(images, 0), Squares(images // 4, 500_000), "squares", task=Detection(detector))
    config = make(
        {
            "model": "<backbone>",
            "pool": "zero-shot",
            "budget": budget,
            "device": "cpu",
            "solutions": 5,
            "passes": {"finetune": {"epochs": epochs, "batch_size": 16, "learning_rate": 0.005}},
        }
    )
    passes = build_pipeline(config, (*PASSES, "finetune")).passes
    pipeline = hant.Pipeline([*passes[:-1], FirstPass(), passes[-1]])
    materials = load_materials(config, model=backbone.eval(), data=data)
    with open_run(config, run, materials, pipeline) as context:
        context = pipeline.run(context)
        winner = context.store.get(WinnerRecord, "winner")
        assert winner is not None
        detector.backbone = load_student(context).network
        return winner.choice


def mean_loss(detector: nn.Module, images: int) -> float:
    """Return the detector's loss on pictures that nothing was trained on."""
    task, backbone = Detection(detector), detector.backbone
    with torch.no_grad():
        found = [task.loss(backbone(batch), batch, targets).item() for batch, targets in _test(images)]  # type: ignore[operator]
    return sum(found) / len(found)


def _test(images: int) -> Iterator[tuple[Tensor, list[dict[str, Tensor]]]]:
    for index in range(images):
        image, target = Squares(images, 700_000)[index]
        yield image[None], [target]


def main() -> None:
    """Train a detector, make its backbone faster, and run it as before."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--run", type=Path, default=Path("runs/detector"))
    parser.add_argument("--budget", default="0.8")
    parser.add_argument("--steps", type=int, default=100, help="of the teacher's training")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=4)
    given = parser.parse_args()
    detector = train_detector(given.steps)
    before = mean_loss(detector, 32)
    choice = optimise(detector, given.run, given.budget, given.images, given.epochs)
    changed = sum(operation != "teacher" for operation in choice.values())
    print(f"{changed} of {len(choice)} blocks replaced; loss {before:.3f} before, {mean_loss(detector, 32):.3f} after")
    print(detector([Squares(1, 0)[0][0]])[0]["boxes"][:1])


if __name__ == "__main__":
    main()
