"""Write a kit: the networks of all latencies that a run lacks, each distinct file once, and what times them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from torch import Tensor, nn

from ....transformer.contracts.backend import KitPart
from ....transformer.contracts.context import Context
from ....transformer.errors import StorageError, UsageError
from ....transformer.runs.weights import weights_digest
from ....transformer.tools.files import write_atomically
from ..measure import assembled
from ..plan import Plan
from ..rows import Group, groups
from ..workbench import lowerable, network_inputs
from .manifest import GroupPlan, Input, Manifest, Network, RowPlan
from .measure import MANIFEST, RESULT
from .script import script

_README = """This kit times {networks} networks in {groups} groups on a device, for hant: target {target}
({backend}, {precision}, batch {batch}).

    pip install {needs}
    python measure.py            in this folder
    python measure.py kit.zip    or without unpacking, beside the zip file

Python 3.10 or newer. Nothing else should run on the device meanwhile. It may be stopped at any time; the same command
goes on. Then bring {result} back and run where hant is:

    hant-opt profile MODEL_OR_RUN --import {result}
"""


class Packer:
    """A kit that is being written."""

    def __init__(self, context: Context, archive: zipfile.ZipFile) -> None:
        self._context, self._archive = context, archive
        self._files: set[str] = set()
        self._groups: list[GroupPlan] = []
        self.unfit: dict[str, str] = {}
        """Rows that cannot be lowered -> why."""
        self._folder = context.store.scratch / "kit"
        self._folder.mkdir(parents=True, exist_ok=True)
        whole = self._folder / "teacher.lowered"
        inputs = network_inputs(context)
        context.backend.lower(lowerable(context.model), inputs, context.target, whole)
        self._teacher = self._added(whole, inputs)

    def teacher(self) -> None:
        """Have the whole teacher timed alone, as long as the target's protocol wants."""
        self._group("teacher", (), self._context.target.protocol.max_rounds)

    def rows(self, plan: Plan, size: int) -> Iterator[int]:
        """Add the rows of ``plan``; yield how many were dealt with, group by group.

        Raises:
            CaptureError: a block of the teacher cannot be lowered.
        """
        for group in groups(self._context, plan, size):
            networks, reasons = self._lowered(group.modules, [(tensor,) for tensor in group.inputs])
            rows = tuple(self._row_plans(group, reasons))
            self._group(f"block {group.block}, {len(rows)} operations", networks, group.rounds, rows=rows)
            yield len(group.formulas)

    def networks(self, choices: Sequence[dict[str, str]]) -> None:
        """Add whole networks; one that cannot be lowered is left out."""
        modules = [assembled(self._context, choice) for choice in choices]
        networks, reasons = self._lowered(modules, [network_inputs(self._context)] * len(modules))
        kept = tuple(choice for choice, reason in zip(choices, reasons, strict=True) if reason is None)
        if kept:
            rounds = self._context.target.protocol.max_rounds
            self._group(f"{len(kept)} whole networks", networks, rounds, selections=kept)

    def finish(self, part: KitPart) -> Manifest:
        """Write manifest, script and the note for people; return the manifest."""
        context, target = self._context, self._context.target
        manifest = Manifest(
            hant=version("hant"),
            target=target,
            teacher=f"{weights_digest(context.model)}-{context.teacher.structure}",
            inputs=tuple("x".join(map(str, tensor.shape[1:])) for tensor in context.example_inputs),
            pool=tuple(spec.name for spec in context.pool),
            needs=part.needs,
            settings=part.settings,
            asked=part.asked,
            groups=tuple(self._groups),
            unfit=self.unfit,
        )
        facts = {
            "networks": sum(len(group.networks) for group in self._groups),
            "groups": len(self._groups),
            "target": target.name,
            "backend": target.backend,
            "precision": target.precision,
            "batch": target.batch_size,
            "needs": " ".join(f"'{package}'" for package in part.needs.values()),
            "result": RESULT,
        }
        self._write(MANIFEST, json.dumps(manifest.model_dump(mode="json"), indent=1).encode())
        self._write("measure.py", script(part).encode())
        self._write("README.txt", _README.format(**facts).encode())
        return manifest

    def _lowered(
        self, modules: Sequence[nn.Module], inputs: Sequence[Sequence[Tensor]]
    ) -> tuple[tuple[Network, ...], list[str | None]]:
        """Add modules; return those that could be lowered, and for each why not."""
        backend, target = self._context.backend, self._context.target
        paths = [self._folder / f"{index:05d}.lowered" for index in range(len(modules))]
        reasons = list(backend.lower_many([lowerable(module) for module in modules], inputs, target, paths))
        triples = zip(paths, inputs, reasons, strict=True)
        return tuple(self._added(path, args) for path, args, reason in triples if reason is None), reasons

    def _row_plans(self, group: Group, reasons: Sequence[str | None]) -> Iterator[RowPlan]:
        # An index into the group's modules becomes one into its networks: first the teacher, then those lowered.
        place = [1 + list(reasons[:index]).count(None) for index in range(len(reasons))]
        for formula in group.formulas:
            row, reason = formula.row, group.why_not(formula, reasons)
            if reason is not None:
                self.unfit[row.key] = reason
                continue
            yield RowPlan(
                key=row.key,
                operation=row.operation,
                input=str(row.block.input),
                output=str(row.block.output),
                weights=tuple((place[index], weight) for index, weight in formula.weights),
                plus=formula.plus,
            )

    def _group(
        self,
        what: str,
        networks: tuple[Network, ...],
        rounds: int,
        rows: tuple[RowPlan, ...] = (),
        selections: tuple[dict[str, str], ...] = (),
    ) -> None:
        self._groups.append(
            GroupPlan(
                name=f"{len(self._groups):04d}",
                what=what,
                max_rounds=rounds,
                networks=(self._teacher, *networks),
                rows=rows,
                selections=selections,
            )
        )

    def _added(self, path: Path, inputs: Sequence[Tensor]) -> Network:
        """Put a lowered file into the kit unless it is there already."""
        content = self._context.backend.packed(path, self._context.target)
        path.unlink()
        name = f"networks/{hashlib.sha256(content).hexdigest()[:16]}.onnx"
        if name not in self._files:
            self._files.add(name)
            self._write(name, content)
        wanted = (Input(shape=tuple(tensor.shape), dtype=str(tensor.cpu().numpy().dtype)) for tensor in inputs)
        return Network(file=name, inputs=tuple(wanted))

    def _write(self, name: str, content: bytes) -> None:
        """Write an entry without a date: the same run gives the same bytes."""
        entry = zipfile.ZipInfo(name)
        entry.external_attr = 0o644 << 16
        self._archive.writestr(entry, content, zipfile.ZIP_DEFLATED)


def write_kit(
    context: Context, path: Path, plan: Plan, choices: Sequence[dict[str, str]], size: int, whole: bool
) -> Manifest:
    """Write the kit of ``plan`` and the networks ``choices`` to ``path``, atomically; return its manifest.

    ``size`` is how many operations are timed together; ``whole`` says whether the teacher's own time is wanted.

    Raises:
        StorageError: it cannot be written.
        UsageError: the target's runtime has no kit, or a block cannot be lowered.
    """
    part = context.backend.kit(context.target)
    if not (whole or plan.missing or choices):
        raise UsageError("every latency that a kit could measure is in the run already; go on with the next stage")
    made: list[Manifest] = []

    def fill(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w") as archive, context.progress.task("kit", plan.missing) as task:
            packer = Packer(context, archive)
            if whole:
                packer.teacher()
            for count in packer.rows(plan, size):
                task.advance(count)
            packer.networks(choices)
            made.append(packer.finish(part))

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, fill)
    except OSError as error:
        raise StorageError(f"cannot write kit {path}: {error.strerror}; give another --kit") from error
    return made[0]
