"""Linearise a network of candidates: one forward pass, one backward pass for each number of its output.

With the Jacobian of the outputs at every block's output, the effect of every candidate on the present network is one
inner product: the candidate runs once, alone, on what its block reads in this network. Gradients take the statistics of
the batch as given. If they went through them, the sum over the images would hardly change with anything, since a batch
norm's outputs add up to the same whatever it reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...op_library.tensor_spec import TensorSpec
from ...transformer.contracts.task import Classification, Task
from ..networks.supernet import Statistics, Supernet, statistics_of
from ..ranking.judge import Judge
from ..selecting.table import SearchTable
from .contest import Ints
from .effects import Effects, joined

MOST_LOGITS = 20
"""Classifiers with more classes are followed in their largest logits only: a backward pass costs as much as a forward
pass, and of a thousand classes nearly all have no probability."""
TOP = 10
"""How many, the label's among them."""
_BYTES = 2 << 30
"""Memory for inputs, outputs and gradients of all blocks at a time; more images are taken in several parts."""


class Seen(NamedTuple):
    """What passed through the blocks of a network."""

    inputs: dict[str, tuple[Tensor, ...]]
    """What each block read."""
    outputs: dict[str, Tensor]
    """What it made, of which gradients can be asked."""


def linearise(judge: Judge, table: SearchTable, start: Ints, indices: Tensor, statistics: Statistics) -> Effects:
    """Return the effects of all exchanges in the network ``start`` on the held-out images ``indices``.

    Args:
        judge: whose supernet and images are used.
        table: the blocks and their operations.
        start: one operation's index a block, shape (N,).
        indices: of the images, shape (n,).
        statistics: what batch norms normalise by; where the images need several parts, those of the part.
    """
    numbers = MOST_LOGITS if isinstance(judge.task, Classification) else 1
    blocks = judge.supernet.graph.replaceable
    each = 4 * sum((numbers + 2) * _values(block.output) + _values(block.input) for block in blocks)
    parts = max(1, -(-len(indices) * each // _BYTES))
    cuts = torch.tensor_split(indices, min(parts, max(1, len(indices) // 2)))
    return joined([_part(judge, table, start, *judge.sample(cut), statistics) for cut in cuts])


def _values(spec: TensorSpec) -> int:
    """Return how many numbers a sample has."""
    return math.prod(spec.shape) * max(1, spec.batch)


def _part(judge: Judge, table: SearchTable, start: Ints, images: Tensor, targets: Any, kind: Statistics) -> Effects:
    supernet, choice = judge.supernet, table.choice(start)
    network = supernet.choose(choice)
    with torch.enable_grad(), statistics_of(network, kind, constant=True), _watched(supernet) as seen:
        outputs = network(images)
        followed, label = _followed(judge.task, outputs, images, targets)
        wanted = list(seen.outputs.values())
        goals = followed.sum(0)
        gradients = [
            torch.autograd.grad(goal, wanted, retain_graph=k + 1 < len(goals), allow_unused=True)
            for k, goal in enumerate(goals)
        ]
    changes = []
    for place, (block, operations) in enumerate(zip(table.blocks, table.operations, strict=True)):
        slopes = [
            None if gradient[place] is None else gradient[place].reshape(len(followed), -1) for gradient in gradients
        ]
        now = choice[block]
        changes.append(np.stack([
            np.zeros(followed.shape, np.float32) if name == now
            else _effect(supernet, block, name, seen, slopes, kind)
            for name in operations
        ]))  # fmt: skip
    return Effects(start, followed.detach().float().cpu().numpy(), changes, label)


def _effect(
    supernet: Supernet, block: str, operation: str, seen: Seen, slopes: Sequence[Tensor | None], kind: Statistics
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return what ``operation`` in place of the present one adds to the outputs, shape (n, k).

    ``slopes`` are the gradients of the k numbers at the block's output, (n, D) each; None where there is no influence.
    """
    candidate = supernet.candidate(block, operation)
    with torch.no_grad(), statistics_of(candidate, kind):
        # some layers write into what they read
        made = candidate(*(value.clone() for value in seen.inputs[block]))
        difference = made - seen.outputs[block].detach()
        sums = [
            difference.new_zeros(1) if slope is None else (slope * difference.reshape(slope.shape)).sum(1)
            for slope in slopes
        ]
    rows = max(len(row) for row in sums)
    effect: np.ndarray[Any, np.dtype[np.float32]]
    effect = torch.stack([row.expand(rows) for row in sums], 1).float().cpu().numpy()
    return effect


@contextmanager
def _watched(supernet: Supernet) -> Iterator[Seen]:
    """Keep what passes through every switch."""
    seen = Seen({}, {})

    def before(name: str, _: Any, inputs: tuple[Any, ...]) -> None:
        seen.inputs[name] = tuple(value.detach().clone() for value in inputs)

    def after(name: str, _: Any, __: Any, output: Tensor) -> Tensor:
        # a network that was frozen has no gradients: they begin at its first block
        seen.outputs[name] = output if output.requires_grad else output.detach().requires_grad_()
        return seen.outputs[name].clone()  # layers behind it may write into it

    with ExitStack() as hooks:
        for name, switch in supernet.switches.items():
            hooks.enter_context(_removed(switch.register_forward_pre_hook(partial(before, name))))
            hooks.enter_context(_removed(switch.register_forward_hook(partial(after, name))))
        yield seen


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _followed(task: Task, outputs: Any, images: Tensor, targets: Any) -> tuple[Tensor, Ints | None]:
    """Return the numbers that are followed, (n, k), and the label's place among them, (n,).

    Of many classes the label's and the largest others have their own logit, the rest share one: the logarithm of their
    summed exponentials. A task of the user's has one number, its mean loss over all the images: (1, 1), and no label.
    """
    if not isinstance(task, Classification):
        return task.loss(outputs, images, targets).reshape(1, 1), None
    logits = outputs.float()
    if logits.shape[1] <= MOST_LOGITS:
        return logits, targets.cpu().numpy().astype(np.int64)
    own = torch.nn.functional.one_hot(targets, logits.shape[1]).bool()
    chosen = logits.detach().masked_fill(own, torch.inf).topk(TOP, 1).indices
    others = torch.ones_like(own).scatter(1, chosen, False)
    rest = logits.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([logits.gather(1, chosen), rest], 1), np.zeros(len(logits), np.int64)
