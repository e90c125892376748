"""From a module to the operations that it runs, with their shapes, on tensors that hold no data."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from ...transformer.errors import CaptureError
from ...transformer.tools.modes import evaluating

FREE = frozenset(
    [
        "alias",
        "as_strided",
        "detach",
        "empty",
        "expand",
        "getitem",
        "lift_fresh_copy",
        "permute",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "squeeze",
        "t",
        "transpose",
        "unbind",
        "unsqueeze",
        "unfold",
        "view",
        "_unsafe_view",
        "_reshape_alias",
        "chunk",
        "arange",
        "scalar_tensor",
        "full",
        "sym_size",
        "zeros",
        "ones",
        "new_zeros",
        "new_ones",
        "new_empty",
        "zeros_like",
        "ones_like",
    ]
)
"""Operations that start no kernel, or one that is made once: a new view of the same values, constants."""


@dataclass(frozen=True, eq=False)
class Operation:
    """An operation that starts a kernel of its own in eager PyTorch."""

    name: str
    """Of the ATen operator, such as ``convolution``."""
    node: fx.Node
    inputs: tuple[fx.Node, ...]
    """Nodes that made the values it reads, views looked through, where they depend on the module's input."""
    read: int
    """How many such values it reads."""
    weights: int
    """How many values it reads that depend on nothing."""


def walk(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[fx.Graph, tuple[Operation, ...]]:
    """Return the graph of ATen operators that ``module`` runs in eval mode, and those that start kernels.

    Nothing is computed: the tensors are fake.

    Raises:
        CaptureError: the module decides on values, which fake tensors do not have.
    """
    try:
        with evaluating(module), torch.no_grad():
            made = make_fx(module, tracing_mode="fake", _allow_non_fake_inputs=True)(*inputs)
    except Exception as error:  # torch has no common class for what may go wrong here
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CaptureError(f"cannot estimate {type(module).__name__}: {reason}") from error
    return made.graph, operations(made.graph)


def operations(graph: fx.Graph) -> tuple[Operation, ...]:
    """Return the operations of ``graph`` that start kernels, in order."""
    found: list[Operation] = []
    varies: dict[fx.Node, bool] = {}
    for node in graph.nodes:
        varies[node] = node.op == "placeholder" or any(varies[source] for source in node.all_input_nodes)
        if node.op == "call_function" and name_of(node) not in FREE:
            inputs = [source for source in node.all_input_nodes if varies[source]]
            constants = [source for source in node.all_input_nodes if not varies[source]]
            found.append(
                Operation(
                    name=name_of(node),
                    node=node,
                    inputs=tuple(dict.fromkeys(map(origin, inputs))),
                    read=sum(map(_values, inputs)),
                    weights=sum(map(_values, constants)),
                )
            )
    return tuple(found)


def _values(node: fx.Node) -> int:
    """Return how many values a reader of ``node`` fetches: a view may repeat them or leave some out."""
    return min(math.prod(shape(node)), math.prod(shape(origin(node))))


def origin(node: fx.Node) -> fx.Node:
    """Return the node whose values ``node`` is a view of, itself if it makes its own."""
    while node.op == "call_function" and name_of(node) in FREE and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return node


def name_of(node: fx.Node) -> str:
    """Return the operator's name without namespace and overload."""
    if node.target is operator.getitem:
        return "getitem"
    return str(node.target).removeprefix("aten.").partition(".")[0]


def shape(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of the node's first tensor."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, list | tuple) else value
    return tuple(int(size) for size in first.shape) if isinstance(first, Tensor) else ()
