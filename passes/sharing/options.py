"""What a shared training is told, and the recipes and the plan that follow for a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from ...op_library.families.slices import Slice
from ...op_library.op_spec import OpSpec
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Amount, Decay, Factor, Positive, Share, one_of, setting
from ...transformer.data.images import size
from ...transformer.errors import UsageError
from ..candidates.records import OperationRecord
from ..finetuning.align import RATE, AlignPass
from ..finetuning.examine import Parts
from ..finetuning.recipe import OPTIMIZERS, RATES, AlignRecipe, FinetuneRecipe, automatic_epochs
from ..finetuning.start import start_of
from ..finetuning.training_pass import TrainingPass
from ..pretraining.records import CandidateRecord
from .plan import DRAWS, Plan, pairs
from .recipe import SharedAlignRecipe, SharedLabelsRecipe
from .schedule import SCHEDULES, TEACHERS, Schedule, adjusted

STARTS = ("teacher", "none")
PATHS = ("auto", "front", "any")
_USUAL = {"teacher": "align", "none": "deps"}
"""Schedules by where the weights begin."""
_LONGER = 1.5
"""Times the epochs of one student: each of many students has its turn less often."""
Choices = Mapping[str, Mapping[str, str]]
"""Student -> block -> operation."""
Costs = Mapping[str, Mapping[str, int]]
"""Block -> operation -> MACs of one image."""
SharedRecipe = SharedAlignRecipe | SharedLabelsRecipe


@dataclass(frozen=True)
class SharedOptions(TrainingPass):
    """The options of ``shrink``."""

    students: tuple[str, ...] = ()
    """Names of the run's students to train; each has a winner of its own. With ``any`` none need be named."""
    shared: bool = setting(True, decides=False)
    """False to train each student alone, as without this pass: the baseline."""
    schedule: Annotated[str, one_of(("auto", *SCHEDULES))] = "auto"
    """``align``, ``front``, ``deps``, ``sandwich``, ``progressive`` or ``random``; ``auto`` is ``align`` where the
    teacher's weights are the start, and ``deps`` where nothing is."""
    start: Annotated[str, one_of(STARTS)] = "teacher"
    """``none`` draws all weights anew; DepS then trains the full network alone for half of the steps."""
    paths: Annotated[str, one_of(PATHS)] = "auto"
    """``front`` trains the named students; ``any`` trains whatever can be made of the pool's operations, and selections
    are found behind the training, in its weights. ``auto`` is ``any`` where the pool has the block's own weights alone.
    """
    draw: Annotated[str, one_of(DRAWS)] = "budget"
    """How students are drawn: at costs spread evenly, or ``uniform`` over all there are."""
    draws: Amount | None = None
    """Students drawn a step."""
    delay: Share | None = None
    """Share of the steps in which the full network is trained alone; of ``deps`` 0.5 from nothing, else 0."""
    ramp: Share | None = None
    """Share of the steps after the delay in which the students' gradients fade in (epsilon)."""
    teach: Annotated[str, one_of(TEACHERS)] | None = None
    """Who teaches the students: ``full``, the frozen ``teacher``, ``none``."""
    labels: Factor | None = None
    """Factor of the students' loss on labels."""
    epochs: Amount | None = None
    """By default 1.5 times those of one student's ``finetune``, however many students there are."""
    align_epochs: Amount | None = None
    """Epochs on features before them, of the schedule ``align``; by default 1.5 times those of ``align``."""
    batch_size: Annotated[int, Field(ge=2)] | None = None
    """Images a step, of all processes together; by default 64, on features as of ``align``."""
    learning_rate: Positive | None = None
    """Highest rate; by default the highest that a trial of a few steps bears. That on features always is."""
    optimizer: Annotated[str, one_of(OPTIMIZERS)] = FinetuneRecipe.optimizer
    weight_decay: Factor = FinetuneRecipe.weight_decay
    warmup: Share = FinetuneRecipe.warmup
    label_smoothing: Decay = FinetuneRecipe.label_smoothing
    teacher_share: Share = AlignRecipe.teacher_share
    """Of ``align``: share of the rate for blocks whose own weights no slice uses."""

    def check(self, context: Context) -> None:
        """Refuse options that do not go together."""
        schedule = self.effective
        if schedule.aligned and self.start == "none":
            raise UsageError(
                "shrink.start=none and shrink.schedule=align do not go together: from nothing there are no features to "
                "begin with; give --set shrink.schedule=deps"
            )
        if schedule.teach == "full" and not all(phase.full for phase in schedule.phases):
            raise UsageError(
                "shrink.teach=full needs a schedule that trains the full network in each step: deps or sandwich"
            )

    @property
    def effective(self) -> Schedule:
        """The schedule with these options; a trained teacher's full network need not be trained first."""
        name = self.schedule_name
        delay = 0.0 if self.delay is None and name == "deps" and self.start == "teacher" else self.delay
        return adjusted(SCHEDULES[name], delay, self.draws, self.ramp, self.teach, self.labels)

    @property
    def schedule_name(self) -> str:
        """The schedule by name."""
        return _USUAL[self.start] if self.schedule == "auto" else self.schedule

    def any(self, context: Context) -> bool:
        """Return whether any students are drawn: by default where all that there is shares the block's own weights."""
        return self.paths == "any" or (self.paths == "auto" and all(map(shares_weights, context.pool)))

    def costs(self, context: Context, choices: Choices) -> dict[str, dict[str, int]]:
        """Return the operations that are trained, with their MACs; those of ``choices``, or all of the pool."""
        listed, ready = context.store.all(OperationRecord), context.store.all(CandidateRecord)
        pool = {spec.name for spec in context.pool} if self.any(context) else set()
        found = {}
        for block in context.teacher.replaceable:
            used = {"teacher", *(choice.get(block.name, "teacher") for choice in choices.values())}
            own = (r for r in ready.values() if r.block == block.name and r.state == "ready")
            used |= {record.operation for record in own if record.operation in pool}
            if len(used) > 1:
                found[block.name] = {name: listed[f"{block.name}/{name}"].macs for name in sorted(used)}
        return found

    def recipes(self, context: Context, parts: Parts, choices: Choices) -> tuple[SharedAlignRecipe, SharedLabelsRecipe]:
        """Return how to train the students of ``choices``: on features first, then on labels."""
        self.check(context)
        costs = self.costs(context, choices)
        start = start_of(context, {block: list(operations) for block, operations in costs.items()}, "all")
        aligning = self._on_features(context, parts, choices, costs, start)
        recipe = self._on_labels(context, parts, choices, costs, aligning)
        aligning.check()
        recipe.check()
        return aligning, recipe

    def _on_features(
        self, context: Context, parts: Parts, choices: Choices, costs: Costs, start: str
    ) -> SharedAlignRecipe:
        usual = AlignPass(batch_size=self.batch_size).recipe(context, start, parts)
        epochs = math.ceil(_LONGER * usual.epochs) if self.align_epochs is None else self.align_epochs
        epochs = epochs if self.effective.aligned else 0
        return SharedAlignRecipe(
            epochs=epochs,
            steps=usual.steps,
            batch_size=usual.batch_size,
            learning_rate=RATE,
            tried=True,
            teacher_share=self.teacher_share,
            channels_last=usual.channels_last,
            plan=self._plan(context, choices, costs, usual.steps * epochs),
            start=start,
            **self._common(context),
        )

    def _on_labels(
        self, context: Context, parts: Parts, choices: Choices, costs: Costs, before: SharedAlignRecipe
    ) -> SharedLabelsRecipe:
        samples = size(parts.fit)
        batch_size = min(self.batch_size or 64, samples)
        automatic = math.ceil(_LONGER * automatic_epochs(samples, before.epochs > 0))
        epochs, steps = automatic if self.epochs is None else self.epochs, samples // max(1, batch_size)
        return SharedLabelsRecipe(
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            optimizer=self.optimizer,
            learning_rate=RATES[self.optimizer] if self.learning_rate is None else self.learning_rate,
            tried=self.learning_rate is None,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            label_smoothing=self.label_smoothing,
            distillation=0.0 if self.start == "none" else 1.0,
            plan=self._plan(context, choices, costs, steps * epochs),
            start=f"{before.start}/{before.fingerprint}" if before.epochs else before.start,
            **self._common(context),
        )

    def _common(self, context: Context) -> dict[str, Any]:
        return {
            "momentum": self.momentum,
            "augment": self.augment,
            "parts": self.parts,
            "mixed_precision": self.mixed_precision,
            "task": context.dataset.task.name,
            "seed": context.seed,
        }

    def _plan(self, context: Context, choices: Choices, costs: Costs, total: int) -> Plan:
        inside = sum(operations["teacher"] for operations in costs.values())
        front = {tuple(sorted((block, choice.get(block, "teacher")) for block in costs)) for choice in choices.values()}
        return Plan(
            schedule=self.effective,
            total=total,
            front=tuple(sorted(front)),
            operations=pairs(costs),
            outside=max(0, context.teacher.macs - inside),
            any=self.any(context),
            draw=self.draw,
            seed=context.seed,
        )


def shares_weights(spec: OpSpec) -> bool:
    """Return whether an operation has no weights besides the block's own."""
    return spec.weightless or isinstance(spec, Slice)
