"""Join operations into kernels as a runtime does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from torch import fx

from .kernel import Kernel, Kind
from .walk import Operation, origin, shape

PRODUCTS = frozenset(
    [
        "convolution",
        "addmm",
        "mm",
        "bmm",
        "baddbmm",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_flash_attention",
    ]
)
_BEFORE = {"addmm": 1, "baddbmm": 1}
"""How many arguments stand before the two factors of a product."""
REDUCTIONS = frozenset(
    [
        "mean",
        "sum",
        "amax",
        "max",
        "var",
        "avg_pool2d",
        "max_pool2d_with_indices",
        "_adaptive_avg_pool2d",
        "adaptive_max_pool2d",
        "_softmax",
        "native_layer_norm",
        "native_group_norm",
        "linalg_vector_norm",
        "std",
        "var_mean",
        "argmax",
    ]
)
CHEAP = frozenset(
    ["relu", "relu_", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "clamp", "clamp_", "add", "add_"]
)
"""What every library of convolutions can do to a value before it is written."""


@dataclass(frozen=True)
class Fusion:
    """What a runtime joins."""

    into_products: frozenset[str] = frozenset()
    """Operations that are done to a product's values before they are written."""
    chains: bool = False
    """Whether pointwise operations on the same values become one kernel."""
    folds: bool = False
    """Whether what works on weights alone is done once, before."""


EAGER = Fusion()
TENSORRT_7 = Fusion(into_products=CHEAP | {"native_batch_norm"}, chains=True, folds=True)
"""Up to 2020: a SiLU was a kernel of its own. So the networks of GENet tables 8 and 9 ran."""
TENSORRT = replace(TENSORRT_7, into_products=TENSORRT_7.into_products | {"silu", "silu_"})


def fuse(graph: fx.Graph, operations: Sequence[Operation], fusion: Fusion) -> tuple[Kernel, ...]:
    """Return the kernels that a runtime makes of ``operations``, in the order in which they finish."""
    readers = _readers(graph, operations)
    place = {op.node: index for index, op in enumerate(operations)}
    group_of: dict[fx.Node, list[Operation]] = {}
    for op in operations:
        if fusion.folds and not op.inputs:
            continue
        sources = sorted((node for node in op.inputs if node in group_of), key=place.__getitem__, reverse=True)
        hosts = [group_of[node] for node in sources if readers[node] == {op.node}]
        group = next((host for host in hosts if _joins(op, host, fusion)), [])
        group.append(op)
        group_of[op.node] = group
    groups = {id(group): group for group in group_of.values()}
    return tuple(_kernel(group) for group in sorted(groups.values(), key=lambda group: place[group[-1].node]))


def _readers(graph: fx.Graph, operations: Sequence[Operation]) -> dict[fx.Node, set[fx.Node]]:
    """Return who reads the values of each node: operations, and the network's output."""
    found: dict[fx.Node, set[fx.Node]] = {op.node: set() for op in operations}
    pairs = [(op.node, op.inputs) for op in operations]
    pairs += [(node, tuple(map(origin, node.all_input_nodes))) for node in graph.nodes if node.op == "output"]
    for reader, sources in pairs:
        for source in sources:
            found.get(source, set()).add(reader)
    return found


def _joins(op: Operation, host: Sequence[Operation], fusion: Fusion) -> bool:
    """Return whether ``op`` is done in the kernel of ``host``, whose last value only ``op`` reads."""
    if _kind(op) is not Kind.MOVE or math.prod(shape(op.node)) != math.prod(shape(host[-1].node)):
        return False
    if host[0].name in PRODUCTS:
        return op.name in fusion.into_products
    return fusion.chains and _kind(host[0]) is Kind.MOVE


def _kernel(group: Sequence[Operation]) -> Kernel:
    head = group[0]
    inside = {op.node for op in group}
    outside = head.read + sum(_outside(op, inside) for op in group[1:])
    rows, columns, depth, groups = _product(head) if head.name in PRODUCTS else (0, 0, 0, 1)
    return Kernel(
        name="+".join(op.name for op in group),
        kind=_kind(head),
        read=outside,
        written=math.prod(shape(group[-1].node)),
        weights=sum(op.weights for op in group),
        rows=rows,
        columns=columns,
        depth=depth,
        groups=groups,
    )


def _outside(op: Operation, inside: set[fx.Node]) -> int:
    """Return how many values ``op`` reads that its own kernel has not made."""
    return sum(math.prod(shape(node)) for node in op.inputs if node not in inside)


def _kind(op: Operation) -> Kind:
    if op.name not in PRODUCTS:
        return Kind.REDUCE if op.name in REDUCTIONS else Kind.MOVE
    _, _, depth, groups = _product(op)
    alone = op.name == "convolution" and groups > 1 and depth == math.prod(shape(cast(fx.Node, op.node.args[1]))[2:])
    return Kind.DEPTHWISE if alone else Kind.PRODUCT


def _product(op: Operation) -> tuple[int, int, int, int]:
    """Return (rows, columns, depth, groups) of a convolution or matrix product as matrix products."""
    # by place, not by ``all_input_nodes``: that holds a tensor which is multiplied with itself only once
    first, second = cast(tuple[fx.Node, fx.Node], op.node.args[_BEFORE.get(op.name, 0) :][:2])
    a, b, out = shape(first), shape(second), shape(op.node)
    if op.name == "convolution":
        transposed, groups = bool(op.node.args[6]), cast(int, op.node.args[8])
        kernel = math.prod(b[2:])
        if transposed:
            return math.prod(a) // a[1], b[1] * kernel, b[0] // groups, groups
        return math.prod(out) // out[1], b[0] // groups, b[1] * kernel, groups
    if op.name.startswith("_scaled_dot_product"):
        return a[-2], b[-2], 2 * a[-1], math.prod(a[:-2])
    return a[-2], b[-1], a[-1], math.prod(a[:-2])
