"""Networks put together from the teacher and trained candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...op_library.pools import operation as find_operation
from ...op_library.structure import network as structure_network
from ...transformer.capture.trace import trace
from ...transformer.contracts.context import Context
from ...transformer.contracts.store import Store
from ...transformer.errors import LoadError, LostError, UsageError
from ...transformer.ir.block import Block
from ...transformer.ir.graph import Graph
from ...transformer.tools.copied import copied
from ...transformer.tools.extra_state import drop_extra_state
from ..candidates.build import build_candidate
from ..finetuning.records import StudentRecord
from ..pretraining.records import CandidateRecord, TrainedRecord
from ..selecting.records import SelectionRecord
from .resolution import seen_at


class CandidateWeights:
    """The trained candidates of a run as modules; each is read once and shared by all who ask for it."""

    def __init__(self, store: Store, trained: bool = False) -> None:
        """Read the candidates; ``trained`` takes what the student's search has trained in their place."""
        self._store = store
        self._trained = store.all(TrainedRecord) if trained else {}
        self._modules: dict[tuple[str, str], nn.Module] = {}

    @property
    def recipes(self) -> dict[str, str]:
        """Fingerprint of how each was trained, by ``block/operation``."""
        pretrained = {key: record.recipe for key, record in self._store.all(CandidateRecord).items()}
        return pretrained | {key: record.recipe for key, record in self._trained.items()}

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
        better = self._trained.get(f"{block.name}/{operation}")
        if better or record.file:
            tensors = self._searched(better) if better else self._tensors(record)
            try:
                module.load_state_dict(tensors)
            except RuntimeError as error:
                reason = " ".join(str(error).split())
                raise LoadError(
                    f"{self._store.path(record.file)} does not fit {operation}: {reason}; "
                    "delete it and give the same command again"
                ) from error
        return module.eval()

    def _searched(self, record: TrainedRecord) -> dict[str, Tensor]:
        if not self._store.path(record.file).is_file():
            raise LostError(_missing(self._store, record.file, "search"), SelectionRecord.kind)
        return self._store.load_tensors(record.file, digest=record.digest)

    def _tensors(self, record: CandidateRecord) -> dict[str, Tensor]:
        """Return a candidate's weights; where they are damaged, those of all others are looked at too.

        Damaged files are deleted, so that the same command makes all again in one go.
        """
        store = self._store
        if not store.path(record.file).is_file():
            raise LostError(_missing(store, record.file, "pretrain"), CandidateRecord.kind)
        try:
            return store.load_tensors(record.file, digest=record.digest)
        except LoadError as error:
            bad = [other for other in store.all(CandidateRecord).values() if other.file and not self._sound(other)]
            for other in bad:
                store.discard(other.file)
            more = f", and {len(bad) - 1} other files of candidates" if len(bad) > 1 else ""
            what = str(error).partition("; delete it")[0]
            raise LoadError(f"{what}{more}; deleted, the same command again trains them anew") from error

    def _sound(self, record: CandidateRecord) -> bool:
        try:
            self._store.load_tensors(record.file, digest=record.digest)
        except LoadError:
            return False
        return True


def _missing(store: Store, file: str, verb: str) -> str:
    return f"{store.path(file)} is missing; hant-opt {verb} {store.address} makes it again"


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


def blank(graph: Graph, choice: Mapping[str, str], seed: int = 0) -> Graph:
    """Return the teacher with the operations of ``choice`` as they are before any training."""
    chosen = {name: find_operation(operation) for name, operation in choice.items() if operation != "teacher"}
    return graph.replace({name: build_candidate(graph.block(name), spec, seed) for name, spec in chosen.items()})


def independent(graph: Graph) -> Graph:
    """Return a copy of the graph that shares no parameter with anything else, to be trained as a whole.

    Parameters that the user froze are trained too: what is around a replaced block has to follow it.
    """
    module, eager = copied(graph.module, graph.eager)
    assert module is not None
    for network in (module, eager):
        for parameter in drop_extra_state(network).parameters() if network is not None else ():
            parameter.requires_grad_(parameter.is_floating_point())
    blocks = tuple(replace(block, module=module.get_submodule(block.target)) for block in graph.blocks)
    return replace(graph, module=module, eager=eager, blocks=blocks)


def load_student(context: Context) -> Graph:
    """Return the fine-tuned student of a run, in eval mode.

    Raises:
        UsageError: the run has no student yet.
        LostError: the file of its weights is missing.
        LoadError: it is damaged.
    """
    record = context.store.get(StudentRecord, "student")
    if record is None:
        raise UsageError("the run has no student yet; run the finetune stage first")
    if record.structure:
        return _designed(context, record)
    student = independent(blank(context.teacher, record.choice))  # its weights follow
    student.network.load_state_dict(student_weights(context.store, record))
    student.network.eval()
    return student


def _designed(context: Context, record: StudentRecord) -> Graph:
    """Return the student that is a network of super-blocks; its weights bound what its structure may take."""
    weights = student_weights(context.store, record)
    try:
        with torch.device("meta"):
            classes, channels = len(weights["head.fc.bias"]), weights["stem.conv.weight"].shape[1]
            network = structure_network(record.structure, classes, channels)
        network.load_state_dict(weights, assign=True)
    except (KeyError, IndexError, RuntimeError) as error:
        raise LoadError(
            f"{context.store.path(record.file)} does not fit the structure {record.structure[:80]!r}; delete it and "
            "give the same command again"
        ) from error
    return trace(network.eval(), seen_at(context, record.size).example_inputs)


def student_weights(store: Store, record: StudentRecord) -> dict[str, Tensor]:
    """Return the weights of the fine-tuned student.

    Raises:
        LostError: their file is missing.
        LoadError: it is damaged.
    """
    if not store.path(record.file).is_file():
        raise LostError(_missing(store, record.file, "finetune"), StudentRecord.kind)
    return store.load_tensors(record.file, digest=record.digest)
