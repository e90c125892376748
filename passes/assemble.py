"""Networks put together from the teacher and trained candidates."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from ..op_library.pools import operation as find_operation
from ..transformer.contracts.candidate import build_candidate
from ..transformer.contracts.context import Context
from ..transformer.contracts.records import CandidateRecord, StudentRecord
from ..transformer.contracts.store import RunStore
from ..transformer.errors import LoadError, UsageError
from ..transformer.ir.block import Block
from ..transformer.ir.graph import Graph


class CandidateWeights:
    """The trained candidates of a run as modules; each is read once and shared by all who ask for it."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._modules: dict[tuple[str, str], nn.Module] = {}

    def module(self, block: Block, operation: str) -> nn.Module:
        """Return the candidate in eval mode; its parameters are those of every other caller.

        Raises:
            UsageError: the run has no usable candidate of this name.
        """
        key = block.name, operation
        if key not in self._modules:
            self._modules[key] = self._load(block, operation)
        return self._modules[key]

    def _load(self, block: Block, operation: str) -> nn.Module:
        record = self._store.get(CandidateRecord, f"{block.name}/{operation}")
        if record is None or record.state != "ready":
            why = "is not in the run" if record is None else f"is {record.state}: {record.reason}"
            raise UsageError(f"candidate {operation} of block {block.name} {why}; run the pretrain stage first")
        module = build_candidate(block, find_operation(operation), seed=0)
        if record.file:
            tensors = self._store.load_tensors(record.file)
            try:
                module.load_state_dict(tensors)
            except RuntimeError as error:
                reason = " ".join(str(error).split())
                raise LoadError(f"{self._store.path(record.file)} does not fit {operation}: {reason}") from error
        return module.eval()


def build_student(graph: Graph, choice: Mapping[str, str], weights: CandidateWeights) -> Graph:
    """Return the teacher with every block run by the operation of ``choice`` (block -> operation).

    Blocks that ``choice`` leaves out, or gives to ``teacher``, stay the teacher's. Parameters are shared with the
    teacher and with other students: use ``independent`` before training.
    """
    return graph.replace(
        {
            name: weights.module(graph.block(name), operation)
            for name, operation in choice.items()
            if operation != "teacher"
        }
    )


def independent(graph: Graph) -> Graph:
    """Return a copy of the graph that shares no parameter with anything else."""
    module, eager = copy.deepcopy((graph.module, graph.eager))
    blocks = tuple(replace(block, module=module.get_submodule(block.target)) for block in graph.blocks)
    return replace(graph, module=module, eager=eager, blocks=blocks)


def load_student(context: Context) -> Graph:
    """Return the fine-tuned student of a run, in eval mode.

    Raises:
        UsageError: the run has no student yet.
    """
    record = context.store.get(StudentRecord, "student")
    if record is None:
        raise UsageError("the run has no student yet; run the finetune stage first")
    student = independent(build_student(context.teacher, record.choice, CandidateWeights(context.store)))
    student.network.load_state_dict(context.store.load_tensors(record.file))
    student.network.eval()
    return student
