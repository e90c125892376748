"""Make the backbone of a torchvision detector faster, in place; the rest of the detector stays as it is.

The detector (SSDlite on MobileNetV3) has random weights and learns to find squares in generated pictures, so nothing is
downloaded. Then its backbone goes through hant with a task of our own: candidates are scored, networks ranked and the
student trained by the detector's own loss, and teacher and student are compared by how well they find the squares.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import hant
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

SIDE = 96
"""Height and width of the pictures, in pixels."""


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
    """The detector's loss, from what a backbone makes of the images, and how well its best box lies."""

    name = "ssdlite"
    metric: ClassVar[hant.Metric] = hant.Metric(name="overlap")

    def __init__(self, detector: nn.Module, distillation: float = 1.0) -> None:
        self._detector: Any = detector
        self._distillation = distillation

    def loss(self, outputs: Any, images: Tensor, targets: Any) -> Tensor:
        """Return the sum of the losses of boxes and classes."""
        heads, anchors = self._heads(outputs, images)
        found = zip(targets, anchors, strict=True)
        matched = [self._detector.proposal_matcher(box_iou(target["boxes"], boxes)) for target, boxes in found]
        losses = self._detector.compute_loss(targets, heads, anchors, matched)
        return torch.stack(list(losses.values())).sum()

    def measure(self, outputs: Any, images: Tensor, targets: Any) -> float:
        """Return the mean overlap (intersection over union) of the most certain box with the square."""
        heads, anchors = self._heads(outputs, images)
        found = self._detector.postprocess_detections(heads, anchors, [(SIDE, SIDE)] * len(images))
        return overlap(found, targets)

    def train_loss(self, student: nn.Module, teacher: nn.Module, images: Tensor, targets: Any) -> Tensor:
        """Return the loss of the student, and how far its features are from the teacher's."""
        ours = student(images)
        with torch.no_grad():
            theirs = teacher(images)
        scale = {name: feature.var().clamp_min(1e-6) for name, feature in theirs.items()}  # of layers that are all 0
        far = [nn.functional.mse_loss(ours[name], theirs[name]) / scale[name] for name in theirs]
        return self.loss(ours, images, targets) + self._distillation * torch.stack(far).mean()

    def _heads(self, outputs: Any, images: Tensor) -> tuple[Any, Any]:
        features = list(outputs.values())
        anchors = self._detector.anchor_generator(ImageList(images, [(SIDE, SIDE)] * len(images)), features)
        return self._detector.head(features), anchors


def overlap(found: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]) -> float:
    """Return the mean overlap of the first box found in each picture with the true one; 0 where nothing is found."""
    pairs = zip(found, targets, strict=True)
    return sum(float(box_iou(boxes["boxes"][:1], target["boxes"]).sum()) for boxes, target in pairs) / len(targets)


def batches(count: int, size: int) -> Iterator[tuple[Tensor, list[dict[str, Tensor]]]]:
    """Yield training batches of new pictures."""
    for step in range(count):
        images, targets = zip(*(Squares(size, 1_000_000 + step * size)[i] for i in range(size)), strict=True)
        yield torch.stack(images), list(targets)


def train_detector(steps: int) -> nn.Module:
    """Return a detector that was trained for a moment."""
    torch.manual_seed(0)
    detector: Any = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=2, image_mean=[0.0] * 3, image_std=[1.0] * 3
    )
    detector.transform.fixed_size = (SIDE, SIDE)
    task, optimizer = Detection(detector), torch.optim.AdamW(detector.parameters(), lr=2e-3)
    for images, targets in batches(steps, 16):
        optimizer.zero_grad()
        task.loss(detector.backbone(images), images, targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    trained: nn.Module = detector.eval().requires_grad_(False)
    return trained


def optimise(detector: nn.Module, images: int, **options: Any) -> hant.Result:
    """Put a faster backbone into the detector; ``options`` are those of ``hant.optimize``."""
    backbone: Any = detector.backbone
    data = hant.Data(Squares(images, 0), Squares(images // 4, 500_000), "squares", task=Detection(detector))
    finetune = {"batch_size": 16, "learning_rate": 0.005}
    result = hant.optimize(
        backbone.requires_grad_(True),
        data=data,
        pool="zero-shot",
        solutions=5,
        device="cpu",
        passes={"finetune": finetune},
        **options,
    )
    detector.backbone = result.model
    return result


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
    result = optimise(detector, given.images, run=given.run, budget=given.budget, epochs=given.epochs)
    changed = sum(operation != "teacher" for operation in result.selection.values())
    print(f"{changed} of {len(result.selection)} blocks replaced, {result.latency.ratio:.3f} of the latency;")
    print(f"overlap {result.metrics.teacher:.3f} before, {result.metrics.student:.3f} after, as in {result.run}")
    print("found:", detector([Squares(1, 700_000)[0][0]])[0]["boxes"][:1])


if __name__ == "__main__":
    main()
