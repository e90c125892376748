"""How a shared network is trained: the recipes of alignment and fine-tuning, with a plan of passes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..finetuning.recipe import AlignRecipe, FinetuneRecipe
from .plan import Plan


@dataclass(frozen=True, kw_only=True)
class SharedLabelsRecipe(FinetuneRecipe):
    """Training on labels and answers; the factors of the losses are the full network's."""

    name: ClassVar[str] = "shrink"

    plan: Plan

    def course(self, step: int) -> float:
        """Return the share of the rate: that of fine-tuning, in each phase anew where the schedule restarts."""
        phase, first, end = self.plan.phase(step)
        if not self.plan.schedule.restarts:
            return phase.rate * super().course(step)
        done, total = step - first, max(1, end - first)
        warm = max(1, round(self.warmup * total))
        falling = 0.5 * (1 + math.cos(math.pi * (done - warm) / max(1, total - warm)))
        return phase.rate * ((done + 1) / warm if done < warm else falling)


@dataclass(frozen=True, kw_only=True)
class SharedAlignRecipe(AlignRecipe):
    """Training on the teacher's features, before the other."""

    name: ClassVar[str] = "shrink-align"

    plan: Plan
