"""How the student is fine-tuned: the options of the pass, resolved for a data set."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import nn

from ...transformer.errors import UsageError, nearest

OPTIMIZERS = ("sgd", "adamw")
PRECISIONS = ("no", "bf16", "fp16")
PRELOADS = ("all", "teacher", "none")
_IMAGES = 500_000
"""Images that the automatic number of epochs aims at."""


@dataclass(frozen=True)
class FinetuneRecipe:
    """Everything that decides the student's weights besides its start, the teacher and the data."""

    epochs: int
    steps: int
    """Steps in an epoch."""
    batch_size: int
    learning_rate: float
    seed: int
    start: str
    """What the student starts from: the choice and the candidates' recipes."""
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.05
    """Share of all steps in which the rate rises."""
    label_smoothing: float = 0.0
    cross_entropy: float = 1.0
    """Factor of the cross-entropy, gamma_CE in the paper."""
    distillation: float = 1.0
    """Factor of the KL divergence to the teacher, gamma_KL in the paper."""
    ema: float = 0.0
    """Decay of the moving average of the weights a step; 0 for none."""
    augment: bool = True
    parts: int = 1
    """Parts of a batch that go through the network one after another; gradients are added up."""
    mixed_precision: str = "no"
    """``no``, ``bf16`` or ``fp16``."""
    channels_last: bool = False
    compiled: bool = False
    task: str = ""
    """Name of the user's own task; empty for classification."""

    @property
    def fingerprint(self) -> str:
        """Short hash; a checkpoint of another recipe is not continued."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0 over all epochs: linear warm-up, then cosine to 0."""
        total = max(1, self.steps * self.epochs)
        warm = max(1, round(self.warmup * total))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer; vectors (norms, biases) have no weight decay."""
        trained = [p for p in parameters if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=self.learning_rate)
        return torch.optim.SGD(groups, lr=self.learning_rate, momentum=self.momentum, nesterov=self.momentum > 0)


def automatic_epochs(samples: int) -> int:
    """Return the epochs for a data set: about half a million images in all, at least 10 and at most 15 times each.

    The paper's 100 epochs of ImageNet are worth their time on a cluster; ask for them with ``epochs=100``.
    """
    return min(15, max(10, round(_IMAGES / max(1, samples))))


@dataclass(frozen=True)
class Preset:
    """Values that options of the pass fall back to."""

    epochs: int | None
    """None for the automatic number."""
    batch_size: int
    learning_rate: float


PRESETS = {
    "auto": Preset(None, 64, 0.05),
    "paper-b2": Preset(100, 128 * 2 * 8, 0.02),
    "paper-b4": Preset(100, 128 * 4 * 8, 0.04),
    "paper-b6": Preset(100, 48 * 4 * 8, 0.08),
}
"""Automatic, and those of HANT A.1 (EfficientNet-B2, -B4, -B6): images a GPU x GPUs.

The paper gives 128, 128 and 48 images; 48 over 32 GPUs can only be those of one GPU, so all are read as such.
"""


def preset_of(name: str) -> Preset:
    """Return the preset of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in PRESETS:
        raise UsageError(f"unknown fine-tuning preset {name!r}{nearest(name, PRESETS)}")
    return PRESETS[name]


def check(recipe: FinetuneRecipe, preload: str) -> None:
    """Refuse options that cannot work.

    Raises:
        UsageError: says which and what was expected.
    """
    for what, value, known in (
        ("optimizer", recipe.optimizer, OPTIMIZERS),
        ("mixed precision", recipe.mixed_precision, PRECISIONS),
        ("preloading", preload, PRELOADS),
    ):
        if value not in known:
            raise UsageError(f"unknown {what} {value!r}{nearest(value, known)}")
    if recipe.epochs < 0:
        raise UsageError(f"fine-tuning epochs are {recipe.epochs}, expected 0 or more; 0 skips fine-tuning")
    if recipe.batch_size < 2:
        raise UsageError(f"fine-tuning on batches of {recipe.batch_size} images, expected at least 2")
    if recipe.parts < 1 or recipe.batch_size % recipe.parts:
        raise UsageError(f"fine-tuning batches of {recipe.batch_size} images cannot be cut into {recipe.parts} parts")
