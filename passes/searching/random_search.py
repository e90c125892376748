"""Random sampling under the budget (HANT section 3.2, figure 2b and table 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...transformer.contracts.context import Context
from ...transformer.tools.seeds import derived_seed
from ..ranking.judge import Judge
from .base import BaselinePass, Found, best_of
from .contest import Contest
from .uniform import UniformSampler


@dataclass(frozen=True)
class RandomPass(BaselinePass):
    """Take the best of many networks drawn uniformly from all those within the budget."""

    name: ClassVar[str] = "baseline-random"

    networks: int = 1000
    all_images: bool = False
    """Run every network on all images; otherwise losers are stopped early."""

    def search(self, context: Context, contest: Contest, judge: Judge) -> Found:
        """Draw, evaluate, take the best."""
        sampler = UniformSampler(contest, derived_seed(context.seed, self.name, str(self.budget)))
        return best_of(contest, judge, sampler.distinct(self.networks), self.all_images)
