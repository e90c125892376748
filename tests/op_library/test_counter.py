"""MACs against an independent counter library, parameters against torch."""

from __future__ import annotations

import logging
import math
from collections import Counter
from typing import Any

import hant
import pytest
from hant.op_library.cost import macs, parameters
from hant.op_library.listing import describe
from hant.op_library.op_spec import OpSpec
from hant.op_library.tensor_spec import TensorSpec
from torch import nn

fvcore = pytest.importorskip("fvcore.nn", reason="the counter library comes with hant[dev]")

POOL = tuple(spec for spec in hant.pool("hant-197") if spec.name not in ("teacher", "identity"))
COUNTED = ("conv", "linear", "matmul", "attention")


def independent(module: nn.Module, input: TensorSpec) -> int:
    """Count by fvcore, which reads a trace; it has no rule for fused attention, so it is given one."""

    def attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        batch, heads, queries, depth = inputs[0].type().sizes()
        keys = inputs[1].type().sizes()[2]
        return Counter(attention=2 * batch * heads * queries * keys * depth)

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    analysis = fvcore.FlopCountAnalysis(module.eval(), input.random(1))
    analysis.set_op_handle("aten::scaled_dot_product_attention", attention)
    return int(sum(analysis.by_operator()[name] for name in COUNTED))


def check(spec: OpSpec, input: TensorSpec, output: TensorSpec) -> None:
    module = spec.build(input, output)
    assert macs(module, input) == independent(module, input)
    assert parameters(module) == sum(math.prod(value.shape) for _, value in module.named_parameters())


@pytest.mark.parametrize("spec", POOL[::7], ids=str)
def test_macs_agree_with_fvcore(spec: OpSpec) -> None:
    check(spec, TensorSpec((16, 14, 14)), TensorSpec((24, 7, 7)))


@pytest.mark.slow
@pytest.mark.parametrize("spec", POOL, ids=str)
def test_macs_of_every_operation_agree_with_fvcore(spec: OpSpec) -> None:
    check(spec, TensorSpec((24, 33, 33)), TensorSpec((24, 33, 33)))


def test_listing_counts_what_the_module_costs() -> None:
    border = TensorSpec((16, 14, 14)), TensorSpec((16, 14, 14))
    pool = hant.pool("fast,vit_d1_w32_h4,bot_trans_e1,lambda_e1")
    rows = describe(pool, *border)
    assert [row.operation for row in rows] == [spec.name for spec in pool]
    assert (rows[0].macs, rows[0].parameters, rows[0].reason) == (None, None, "costs what the block costs")
    assert (rows[1].macs, rows[1].parameters) == (0, 0)
    for spec, row in zip(pool[2:], rows[2:], strict=True):
        module = spec.build(*border)
        assert (row.macs, row.parameters, row.reason) == (macs(module, border[0]), parameters(module), "")


def test_listing_takes_no_memory_for_weights_and_gives_reasons() -> None:
    huge = TensorSpec((1024, 512, 512))
    rows = {row.operation: row for row in describe(hant.pool("identity,cb_stack_7x7_ex1.0,bot_trans_e1"), huge, huge)}
    assert rows["cb_stack_7x7_ex1.0"].parameters == 2 * 1024**2 * 49 + 4 * 1024
    assert rows["bot_trans_e1"].macs is None
    assert "positions takes" in rows["bot_trans_e1"].reason
