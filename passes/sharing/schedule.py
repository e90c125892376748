"""What each step of a shared training runs: schedules are data, a list of phases."""

from __future__ import annotations

from dataclasses import dataclass, replace

TEACHERS = ("full", "teacher", "none")
"""Who teaches the students: the full network in the same step, the frozen teacher, or labels alone."""


@dataclass(frozen=True)
class Phase:
    """A part of the training whose steps are alike."""

    share: float
    """Of all steps; of the last phase what is left."""
    full: bool
    """Whether the network with the teacher's operations everywhere is trained in each step."""
    least: bool
    """Whether the smallest student is."""
    draws: int
    """How many students are drawn besides."""
    operations: tuple[str, ...] = ("*",)
    """Patterns of the operations that drawn students use; ``teacher`` always."""
    rate: float = 1.0
    """Share of the highest rate."""


@dataclass(frozen=True)
class Schedule:
    """How a shared network is trained."""

    phases: tuple[Phase, ...]
    teach: str
    """Who teaches the students (``TEACHERS``)."""
    labels: float
    """Factor of the students' loss on labels."""
    ramp: float = 0.0
    """Share of the steps after the first phase in which the students' gradients grow to their full length."""
    restarts: bool = False
    """Whether the rate rises and falls in each phase anew."""
    aligned: bool = False
    """Whether students learn the teacher's features at every block's border first, without labels."""


_BOTH = Phase(1.0, full=True, least=True, draws=2)
_FRONT = Phase(1.0, full=False, least=False, draws=2)
_WIDE = ("identity", "slice_w0.75*", "slice_w0.5*", "slice_k*")
SCHEDULES: dict[str, Schedule] = {
    # The teacher's features without labels, then as the next: ours.
    "align": Schedule((_FRONT,), teach="teacher", labels=1.0, aligned=True),
    # The frozen teacher's answers and labels, students in turn.
    "front": Schedule((_FRONT,), teach="teacher", labels=1.0),
    # DepS: the full network alone, then the sandwich with gradients that fade in.
    "deps": Schedule((Phase(0.5, full=True, least=False, draws=0), _BOTH), teach="full", labels=0.0, ramp=0.04),
    # BigNAS: full, least and two others from the first step on.
    "sandwich": Schedule((_BOTH,), teach="full", labels=0.0),
    # OFA: kernels, then depth, then width, each in phases of their own rates.
    "progressive": Schedule(
        (
            Phase(0.4, full=True, least=False, draws=0),
            Phase(0.05, False, False, 2, ("slice_k*", "identity"), 0.1),
            Phase(0.2, False, False, 2, ("slice_k*", "identity"), 0.3),
            Phase(0.05, False, False, 4, _WIDE, 0.1),
            Phase(0.3, False, False, 4, ("*",), 0.3),
        ),
        teach="teacher",
        labels=1.0,
        restarts=True,
    ),
    # One random student a step (RSS).
    "random": Schedule((Phase(1.0, full=False, least=False, draws=1),), teach="none", labels=1.0),
}
"""By name."""


def adjusted(
    schedule: Schedule,
    delay: float | None = None,
    draws: int | None = None,
    ramp: float | None = None,
    teach: str | None = None,
    labels: float | None = None,
) -> Schedule:
    """Return a schedule with what is given changed; ``delay`` is the share of the full network alone, in front."""
    phases = schedule.phases
    if delay is not None:
        later = [phase for phase in phases if phase.least or phase.draws]
        whole = sum(phase.share for phase in later)
        rest = tuple(replace(phase, share=(1 - delay) * phase.share / whole) for phase in later)
        phases = (Phase(delay, full=True, least=False, draws=0), *rest) if delay else rest
    if draws is not None:
        phases = tuple(replace(phase, draws=draws if phase.draws else 0) for phase in phases)
    return replace(
        schedule,
        phases=phases,
        ramp=schedule.ramp if ramp is None else ramp,
        teach=schedule.teach if teach is None else teach,
        labels=schedule.labels if labels is None else labels,
    )
