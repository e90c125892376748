"""How the student is trained as a whole: the options of align and finetune, resolved for a data set."""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from torch import nn

from ...transformer.errors import UsageError, nearest

RATES = {"sgd": 0.05, "adamw": 0.002}
"""Highest rate that is tried, of each optimizer."""
OPTIMIZERS = tuple(RATES)
PRECISIONS = ("no", "bf16", "fp16")
PRELOADS = ("all", "teacher", "none")
_IMAGES = 500_000
"""Images that the automatic number of epochs of fine-tuning aims at, ..."""
_BEHIND = 150_000
"""... behind an alignment ..."""
_ALIGNED = 8_000
"""... and that of alignment at least."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe(ABC):
    """Everything that decides the student's weights besides its start, the teacher and the data."""

    name: ClassVar[str]
    """The pass; part of what random numbers are drawn from and of the checkpoint's file."""

    epochs: int
    steps: int
    """Steps in an epoch."""
    batch_size: int
    learning_rate: float
    """Highest rate."""
    seed: int
    start: str
    """What the student starts from: the choice and the candidates' recipes."""
    tried: bool = False
    """Whether a trial finds the share of the rate that the network bears."""
    constant: bool = False
    """Whether the rate stays what it is: of trials."""
    momentum: float = 0.9
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

    @property
    def checkpoint(self) -> str:
        """The file, relative to the run, that holds the last good state."""
        return f"checkpoints/{self.name}-{self.fingerprint}.safetensors"

    @property
    def judged(self) -> tuple[float, float]:
        """Factors of the divergence from the labels, and from the teacher's answers, that states are compared by."""
        return 0.0, 1.0

    @property
    def total(self) -> int:
        """Steps of all epochs."""
        return self.steps * self.epochs

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0 over all epochs."""
        return self.learning_rate * (1.0 if self.constant else self.course(step))

    @abstractmethod
    def course(self, step: int) -> float:
        """Return the share of the highest rate that a step has."""

    def check(self) -> None:
        """Refuse options that cannot work.

        Raises:
            UsageError: says which and what was expected.
        """
        known("mixed precision", self.mixed_precision, PRECISIONS)
        if self.epochs < 0:
            raise UsageError(f"option {self.name}.epochs is {self.epochs}, expected 0 or more; 0 skips it")
        if self.batch_size < 2:
            raise UsageError(f"option {self.name}.batch_size is {self.batch_size}, expected at least 2")
        if self.parts < 1 or self.batch_size % self.parts:
            raise UsageError(
                f"option {self.name}.parts is {self.parts}: batches of {self.batch_size} images cannot be cut into it"
            )


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(TrainingRecipe):
    """How the student is trained on labels and the teacher's answers."""

    name: ClassVar[str] = "finetune"

    optimizer: str = "sgd"
    weight_decay: float = 5e-4
    warmup: float = 0.05
    """Share of all steps in which the rate rises."""
    label_smoothing: float = 0.0
    cross_entropy: float = 1.0
    """Factor of the cross-entropy, gamma_CE in the paper."""
    distillation: float = 1.0
    """Factor of the KL divergence to the teacher, gamma_KL in the paper."""

    @property
    def judged(self) -> tuple[float, float]:
        """As the losses of training."""
        return self.cross_entropy, self.distillation

    def course(self, step: int) -> float:
        """Return the share of the rate: linear warm-up, then cosine to 0."""
        total = max(1, self.total)
        warm = max(1, round(self.warmup * total))
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))

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


@dataclass(frozen=True, kw_only=True)
class AlignRecipe(TrainingRecipe):
    """How the student is trained on the teacher's features."""

    name: ClassVar[str] = "align"

    teacher_share: float = 0.25
    """Share of the rate that the blocks get which are the teacher's own."""

    def course(self, step: int) -> float:
        """Return the share of the rate: a short warm-up, constant to the middle, then falling to 0."""
        warm = min(1.0, (step + 1) / max(1, round(0.05 * self.total)))
        return warm * min(1.0, 2 * (1 - step / max(1, self.total)))

    def make_optimizer(self, blocks: Sequence[Sequence[nn.Parameter]]) -> torch.optim.Optimizer:
        """Return the optimizer, with a group of parameters for each block."""
        groups = [{"params": list(parameters)} for parameters in blocks] or [{"params": []}]
        return torch.optim.SGD(
            groups, lr=self.learning_rate, momentum=self.momentum, nesterov=self.momentum > 0, fused=True
        )


def known(what: str, value: str, names: Collection[str]) -> None:
    """Refuse a value that is none of ``names``.

    Raises:
        UsageError: tells the nearest.
    """
    if value not in names:
        raise UsageError(f"unknown {what} {value!r}{nearest(value, names)}")


def aligning_epochs(samples: int) -> int:
    """Return the epochs of alignment for a data set: two, of small ones as many as make ``_ALIGNED`` images in all."""
    return min(30, max(2, round(_ALIGNED / max(1, samples))))


def automatic_epochs(samples: int, aligned: bool = False) -> int:
    """Return the epochs for a data set: about half a million images in all, at least 10 and at most 15 times each.

    Behind an alignment it is one short cycle of about ``_BEHIND`` images: most is done (docs/finetuning.md).

    The paper's 100 epochs of ImageNet are worth their time on a cluster; ask for them with ``epochs=100``.
    """
    if aligned:
        return min(10, max(1, round(_BEHIND / max(1, samples))))
    return min(15, max(10, round(_IMAGES / max(1, samples))))


@dataclass(frozen=True)
class Preset:
    """Values that options of the pass fall back to."""

    epochs: int | None
    """None for the automatic number."""
    batch_size: int
    learning_rate: float | None
    """None for what a trial finds."""


PRESETS = {
    "auto": Preset(None, 64, None),
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
