"""How candidates are trained: the options of the pass, resolved for a data set."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from ...op_library.op_spec import OpSpec
from ...transformer.errors import UsageError, nearest
from ...transformer.ir.block import Block

PAPER_GAMMA = 0.001
"""Factor of the plain MSE (HANT A.1)."""
AUTOMATIC_STEPS = 220
"""Fewest steps of the automatic recipe; a large data set gets one epoch, as in the paper."""
PRECISIONS = ("no", "bf16")
DERIVED = ("train", "copy")
_MANY = 10_000


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a candidate's weights besides its name, the teacher and the data."""

    steps: int
    batch_size: int
    learning_rate: float
    momentum: float
    schedule: str
    """``constant``, or ``late``: a short warm-up, constant to the middle, then falling to 0."""
    loss: str
    """``nmse``: MSE over the variance of the teacher's output; ``mse``: the paper's, times ``PAPER_GAMMA``."""
    unit_length: bool
    """Scale every gradient to length 1: the rate is the length of a step and fits blocks of any scale."""
    seed: int
    samples: int
    """Images of the part of the data that it is trained on."""
    mixed_precision: str = "no"
    """``no``, or ``bf16``: matrix products of teacher and candidates; loss, weights and optimizer stay single."""
    derived: str = "train"
    """``train``, or ``copy``: operations that are made of the block's own module keep the weights they begin with."""

    @property
    def fingerprint(self) -> str:
        """Short hash; candidates of another recipe are trained anew."""
        facts = {name: value for name, value in asdict(self).items() if name != "derived"}
        return _hash(json.dumps(facts, sort_keys=True))

    def of(self, block: Block, spec: OpSpec) -> str:
        """Return the hash of how the candidate of ``spec`` for ``block`` comes about.

        The weights of a derived operation are cut from the block's own, so they follow from its structure as well.
        """
        if spec.weightless or not spec.derived:
            return self.fingerprint
        return _hash(f"{self.fingerprint}/{self.derived}/{block.signature}")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        warm = min(1.0, (step + 1) / max(1, round(0.05 * self.steps)))
        return self.learning_rate * warm * min(1.0, 2 * (1 - step / self.steps))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Preset:
    """Values that an option of the pass falls back to."""

    batch_size: int
    """0 for 16, where the data are many 64: small batches make more of few images."""
    learning_rate: float
    loss: str
    schedule: str
    unit_length: bool
    least_steps: int


PRESETS = {
    "auto": Preset(0, 0.4, "nmse", "late", True, AUTOMATIC_STEPS),
    "paper-b2": Preset(128, 0.008, "mse", "constant", False, 0),
    "paper-b4": Preset(40, 0.0005, "mse", "constant", False, 0),
    "paper-b6": Preset(12, 0.0012, "mse", "constant", False, 0),
}
"""Automatic, and those of HANT A.1 (EfficientNet-B2, -B4, -B6)."""


def resolve(
    samples: int,
    seed: int,
    preset: str = "auto",
    epochs: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    momentum: float = 0.9,
    mixed_precision: str = "no",
    derived: str = "train",
) -> Recipe:
    """Return the recipe for a data set of ``samples`` images; options that are None come from the preset.

    Raises:
        UsageError: an unknown preset or a value out of range.
    """
    if preset not in PRESETS:
        raise UsageError(f"unknown pretraining preset {preset!r}{nearest(preset, PRESETS)}")
    if mixed_precision not in PRECISIONS:
        known = f"expected one of {', '.join(PRECISIONS)}"
        raise UsageError(f"option pretrain.mixed_precision is {mixed_precision!r}, {known}")
    base = PRESETS[preset]
    if epochs is not None and epochs <= 0:
        raise UsageError(
            f"pretraining epochs are {epochs}, expected more than 0; leave them out for the automatic number"
        )
    size = min(batch_size or base.batch_size or (16 if samples < _MANY else 64), samples)
    if size < 2:
        raise UsageError(
            f"pretraining on batches of {size} images, expected at least 2; use more data or a larger batch"
        )
    per_epoch = samples // size
    steps = max(per_epoch, base.least_steps) if epochs is None else max(1, round(epochs * per_epoch))
    return Recipe(
        steps=steps,
        batch_size=size,
        learning_rate=learning_rate or base.learning_rate,
        momentum=momentum,
        schedule=base.schedule,
        loss=base.loss,
        unit_length=base.unit_length,
        seed=seed,
        samples=samples,
        mixed_precision=mixed_precision,
        derived=derived,
    )
