"""The parts of a report that are of a designed network."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ...op_library.structure import Structure
from ...transformer.contracts.context import Context
from ...transformer.data.images import size
from ...transformer.data.splits import split
from ..designing.costs import parts_ms
from ..designing.master import master_of
from ..designing.records import CostRecord, DesignRecord, GradientRecord, MasterRecord, ResolutionRecord
from ..designing.space import choice_of, mark, part_names, shapes_of
from ..finetuning.records import StudentRecord
from ..latency.records import NetworkLatencyRecord
from ..networks.assemble import load_student
from ..networks.resolution import size_of
from ..ranking.records import FinalistRecord, WinnerRecord
from .gather import need
from .schema import BlockReport, DesignReport, PlaneReport, ResolutionReport, StructureReport


def design_of(context: Context) -> DesignReport | None:
    """Return how the student was designed; None where it is the teacher with other blocks."""
    store = context.store
    student = store.get(StudentRecord, "student")
    if student is None or not student.structure:
        return None
    winner, master = need(store, WinnerRecord, "winner"), need(store, MasterRecord, "master")
    designs = store.all(DesignRecord)
    chosen = designs[f"{winner.index:02d}"]
    trained = {str(record.choice): record.accuracy for record in store.all(FinalistRecord).values()}
    structures = [_structure(context, design, trained, master.accuracy) for design in designs.values()]
    names = part_names(Structure.parse(master.structure))
    return DesignReport(
        structure=student.structure,
        master=master.structure,
        master_accuracy=master.accuracy,
        border=chosen.border,
        decisions=chosen.decisions,
        planes=[
            PlaneReport(
                place=names[record.place],
                type=record.type,
                samples=record.samples,
                **record.loss.model_dump(include=set(PlaneReport.model_fields)),
            )
            for record in sorted(store.all(GradientRecord).values(), key=lambda record: (record.place, record.type))
        ],
        structures=structures,
        resolutions=_resolutions(context, structures, mark(student.size or size_of(context))),
    )


def _structure(
    context: Context, design: DesignRecord, trained: Mapping[str, float], master_accuracy: float
) -> StructureReport:
    return StructureReport(
        structure=design.structure,
        resolution=mark(design.size or size_of(context)),
        predicted_loss_change=design.loss_change,
        predicted_accuracy=master_accuracy + design.accuracy_change,
        accuracy=trained.get(str(choice_of(Structure.parse(design.structure), design.size))),
        predicted_ratio=design.predicted_ratio,
        ratio=design.ratio,
    )


def _resolutions(context: Context, structures: list[StructureReport], chosen: str) -> list[ResolutionReport]:
    """Return the best finalist of each size of images, with how sure its accuracy is."""
    held_out, metric = size(split(context.dataset, context.seed).held_out), context.metric
    found = []
    for name, record in context.store.all(ResolutionRecord).items():
        mine = [one for one in structures if one.resolution == name and one.accuracy is not None]
        best = max(mine, key=lambda one: metric.gain(one.accuracy or 0.0), default=None)
        share = 0.0 if best is None or best.accuracy is None else best.accuracy / 100
        found.append(
            ResolutionReport(
                resolution=name,
                designs=record.designs,
                structure="" if best is None else best.structure,
                accuracy=None if best is None else best.accuracy,
                error=100 * math.sqrt(max(0.0, share * (1 - share)) / held_out),
                ratio=None if best is None else best.ratio,
                chosen=name == chosen,
                reason=record.reason,
            )
        )
    return sorted(found, key=lambda one: [int(side) for side in one.resolution.split("x")])


def parts_of_design(context: Context, teacher_ms: float, ratio: float) -> tuple[list[BlockReport], tuple[float, float]]:
    """Return each place with the MasterNet's item and the student's, and what teacher and student take beyond (ms).

    ``teacher_ms`` is what the teacher takes now, ``ratio`` what the student is predicted to take of it. Parts that were
    timed alone take more than in a row, so what is beyond may be below zero.
    """
    store = context.store
    student, whole = need(store, StudentRecord, "student"), need(store, NetworkLatencyRecord, "teacher")
    before, after = master_of(context)[0], Structure.parse(student.structure)
    costs = store.all(CostRecord)
    channels = context.example_inputs[0].shape[1]
    shapes = ["x".join(map(str, shape)) for shape in shapes_of(after, channels, student.size or size_of(context))]
    times = [
        [teacher_ms / whole.timing.ms * ms for ms in parts_ms(one, channels, costs, seen)]
        for one, seen in ((before, None), (after, student.size))
    ]
    blocks = [
        BlockReport(
            block=name,
            input=shapes[place],
            output=shapes[place + 1],
            teacher=str(before.items[place]),
            operation=str(after.items[place]),
            teacher_ms=times[0][place],
            student_ms=times[1][place],
            estimated=any(record.estimated for record in costs.values()),
        )
        for place, name in enumerate(part_names(before))
    ]
    return blocks, (teacher_ms - sum(times[0]), ratio * teacher_ms - sum(times[1]))


def sizes_of_student(context: Context) -> tuple[dict[str, int], dict[str, int]]:
    """Return MACs and parameters, each of ``teacher`` and ``student``."""
    teacher, student = context.teacher, load_student(context)
    return (
        {"teacher": teacher.macs, "student": student.macs},
        {"teacher": teacher.parameters, "student": student.parameters},
    )
