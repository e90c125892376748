"""List what each block could become: every operation of the pool, or the reason why it does not fit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from ...op_library.cost import macs, parameters
from ...op_library.gpunet import SpaceNet
from ...op_library.op_spec import OpSpec
from ...transformer.contracts.context import Context
from ...transformer.contracts.pass_ import Pass, PassResult
from ...transformer.contracts.target import Target
from ...transformer.errors import HantError, UsageError
from ...transformer.ir.block import Block
from ...transformer.rewrite.deploy import deploy
from .build import build_candidate
from .records import OperationRecord

_ELSEWHERE = "the space has it for other layers"


@dataclass(frozen=True)
class CandidatesPass(Pass):
    """Write an operation record for every replaceable block and operation of the pool."""

    name: ClassVar[str] = "candidates"
    ensures: ClassVar[tuple[str, ...]] = ("operation",)

    def run(self, context: Context) -> PassResult:
        """List all pairs; the records of an earlier pool are replaced."""
        blocks = context.teacher.replaceable
        if not blocks:
            raise UsageError("the network has no replaceable block; hant-opt inspect MODEL says why")
        chosen = context.model.space.choices if isinstance(context.model, SpaceNet) else None
        seen: dict[tuple[str, str], tuple[int, int] | str] = {}
        records: dict[str, OperationRecord] = {}
        with context.progress.task("candidates", len(blocks) * len(context.pool)) as task:
            for block in blocks:
                for spec in context.pool:
                    elsewhere = chosen is not None and spec.name not in ("teacher", *chosen.get(block.name, ()))
                    reason = _ELSEWHERE if elsewhere else unfit(block, spec)
                    records[f"{block.name}/{spec.name}"] = _record(context, block, spec, reason, seen)
                    task.advance()
        with context.store.transaction():
            context.store.delete(OperationRecord)
            for key, record in records.items():
                context.store.put(key, record)
        return PassResult(notes=_notes(records, len(blocks)))


def listed(context: Context, block: Block, spec: OpSpec) -> OperationRecord:
    """Return the record of an operation for a block, and whether it fits."""
    return _record(context, block, spec, unfit(block, spec), {})


def unfit(block: Block, spec: OpSpec) -> str | None:
    """Return why ``spec`` cannot stand for ``block``; None if it can."""
    if spec.name == "identity" and not block.identity_allowed:
        return spec.unfit(block.input, block.output) or "input and output of the block differ in meaning"
    return spec.unfit(block.input, block.output)


def row_name(block: Block, spec: OpSpec) -> str:
    """Return what tells the costs of an operation apart between the same shapes.

    A derived operation's follow from the structure of its block too, those of every other one from its name alone.
    """
    return f"{spec.name}:{block.signature}" if spec.derived else spec.name


def latency_key(block: Block, spec: OpSpec, target: Target) -> str:
    """Return the key of the table's row: blocks that cost the same share it."""
    name = row_name(block, spec)
    calls = "+".join(f"{entry}->{leave}" + f" x{count}" * (count > 1) for (entry, leave), count in block.distinct_calls)
    return f"{target.fingerprint}/{name}/{calls}"


def _record(
    context: Context, block: Block, spec: OpSpec, reason: str | None, seen: dict[tuple[str, str], tuple[int, int] | str]
) -> OperationRecord:
    shapes = (row_name(block, spec), str(block.contracts))
    if reason is None and shapes not in seen:
        seen[shapes] = _cost(context, block, spec)
    cost = seen[shapes] if reason is None else reason
    if isinstance(cost, str):
        return OperationRecord(block=block.name, operation=spec.name, fits=False, reason=cost)
    return OperationRecord(
        block=block.name,
        operation=spec.name,
        fits=True,
        parameters=cost[0],
        macs=cost[1],
        latency_key=latency_key(block, spec, context.target),
    )


def _cost(context: Context, block: Block, spec: OpSpec) -> tuple[int, int] | str:
    """Return (parameters, MACs of all calls of one sample), or why the operation cannot be built after all."""
    try:
        module = build_candidate(block, spec, context.seed)
        if module is block.module:
            return block.parameters, block.macs
        module = deploy(module)
        return parameters(module), macs(module, *(entry for entry, _ in block.contracts))
    except HantError as error:
        return str(error)
    except Exception as error:  # the operation may be a user's, and raise anything
        return f"cannot be built or run: {type(error).__name__}: {' '.join(str(error).split())}"


def _notes(records: dict[str, OperationRecord], blocks: int) -> tuple[str, ...]:
    fitting = sum(record.fits for record in records.values())
    lines = [f"{fitting} of {len(records)} candidates fit {blocks} blocks"]
    reasons = Counter(record.reason for record in records.values() if not record.fits)
    lines += [f"{count} do not: {reason}" for reason, count in reasons.most_common(3)]
    return tuple(lines)
