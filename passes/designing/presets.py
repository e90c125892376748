"""Named values of a design's options: what is given by itself goes before them."""

from __future__ import annotations

from dataclasses import dataclass

FORMS = ("offset", "published")


@dataclass(frozen=True)
class Preset:
    """What options are where they are not given; None stands for what the size of the data says."""

    samples: int | None
    epochs: int | None
    """Of each sample."""
    learning_rate: float
    distillation: float
    expansions: tuple[float, ...]
    corners: bool
    """Whether corners of the box are among the samples first; else they are drawn alike."""
    heaviest: float | None
    form: str
    """Of the planes."""
    finalists: int
    finalist_epochs: int
    final_epochs: int | None
    inherit: bool


PRESETS = {
    "auto": Preset(
        samples=None,
        epochs=None,
        learning_rate=0.02,
        distillation=1.0,
        expansions=(3.0, 6.0),
        corners=True,
        heaviest=2.0,
        form="offset",
        finalists=3,
        finalist_epochs=4,
        final_epochs=None,
        inherit=True,
    ),
    "paper": Preset(
        samples=9,
        epochs=30,
        learning_rate=0.01,
        distillation=0.0,
        expansions=(3.0, 6.0, 9.0),
        corners=False,
        heaviest=None,
        form="published",
        finalists=1,
        finalist_epochs=120,
        final_epochs=480,
        inherit=False,
    ),
}
"""``auto`` is made for a CPU; ``paper`` is GENet's section 5, for a room full of GPUs."""
