"""What every operation of the full pool promises, on drawn shapes."""

from __future__ import annotations

import hant
import pytest
import torch
from hant.op_library.op_spec import OpSpec
from hant.op_library.pools import families, operation
from hant.op_library.tensor_spec import Layout, TensorSpec
from hant.transformer.errors import UnfitError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

POOL = hant.pool("hant-197")
BUILDABLE = tuple(spec for spec in POOL if spec.name not in ("teacher", "identity"))
CHANNELS = st.integers(1, 20)
SIZES = st.sampled_from([1, 2, 5, 7, 8, 14, 15, 33])


@st.composite
def maps(draw: st.DrawFn) -> tuple[TensorSpec, TensorSpec]:
    """A block's border: channels may change, the map may shrink by a stride or by a rounding that no stride has."""
    layout = draw(st.sampled_from([Layout.NCHW, Layout.NCHW, Layout.NHWC]))
    channels = draw(CHANNELS)
    after = draw(st.one_of(st.just(channels), CHANNELS))
    before = (draw(SIZES), draw(SIZES))
    stride = draw(st.sampled_from([1, 1, 2, 3]))
    shrunk = tuple(-(-size // stride) for size in before)
    if draw(st.integers(0, 4)) == 0:
        shrunk = tuple(max(1, size // stride) for size in before)
    return tensor(channels, before, layout), tensor(after, shrunk, layout)


@st.composite
def tokens(draw: st.DrawFn) -> tuple[TensorSpec, TensorSpec]:
    length, batch = draw(st.integers(1, 50)), draw(st.integers(1, 3))
    channels = draw(CHANNELS)
    after = draw(st.one_of(st.just(channels), CHANNELS))
    return (
        TensorSpec((length, channels), layout=Layout.TOKENS, batch=batch),
        TensorSpec((length, after), layout=Layout.TOKENS, batch=batch),
    )


def tensor(channels: int, size: tuple[int, ...], layout: Layout) -> TensorSpec:
    return TensorSpec((channels, *size) if layout is Layout.NCHW else (*size, channels), layout=layout)


def check(spec: OpSpec, input: TensorSpec, output: TensorSpec) -> None:
    torch.manual_seed(0)
    module = spec.build(input, output)
    torch.manual_seed(0)
    again = spec.build(input, output)
    for name, value in module.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), f"{name} depends on more than the seed"

    x = input.random(3)
    y = module(x)
    assert y.shape == (3 * output.batch, *output.shape)
    assert y.dtype == output.torch_dtype
    (y * output.random(3)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.isfinite().all(), f"{name} has a gradient that is not finite"

    module.eval()
    with torch.no_grad():
        alone = module(x[: input.batch])
        together = module(x)
        traced = torch.fx.symbolic_trace(module)(x)
    torch.testing.assert_close(alone, together[: output.batch], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(traced, together, rtol=0, atol=0)


def test_there_are_exactly_197_in_the_papers_order() -> None:
    assert len(POOL) == len({spec.name for spec in POOL}) == 197
    counts = {"teacher": 1, "identity": 1, "efn": 27, "efnv2": 27, "cb_stack": 40, "cb_bottle": 40, "cb_res": 4}
    counts |= {"repvgg": 4, "dbb": 1, "conv_cs": 4, "vit": 36, "bot_trans": 6, "lambda": 6}
    order = list(dict.fromkeys(spec.family for spec in POOL))
    assert order == list(counts)
    assert {family: sum(spec.family == family for spec in POOL) for family in order} == counts


def test_names_of_the_paper() -> None:
    names = {spec.name for spec in POOL}
    assert {f"efnv2_{k}x{k}_e{e}_se{s}" for k in (1, 3, 5) for e in (1, 3, 6) for s in ("1.00", "0.25", "0.04")} < names
    widths = ("0.0625", "0.1", "0.125", "0.2", "0.25", "0.5", "1.0", "2.0", "3.0", "4.0")
    for family in ("cb_stack", "cb_bottle"):
        assert {f"{family}_{k}x{k}_ex{w}" for k in (1, 3, 5, 7) for w in widths} < names
    assert {f"{family}_{k}x{k}" for family in ("cb_res", "conv_cs", "repvgg") for k in (1, 3, 5, 7)} < names
    assert {f"vit_d{d}_w{2**w}_h{h}" for d in (1, 2) for w in range(5, 11) for h in (4, 8, 16)} < names
    assert {f"{family}_e{e}" for family in ("bot_trans", "lambda") for e in ("0.25", "0.5", "1", "2", "3", "4")} < names
    assert {"dbb_1x1", "efn_3x3_e6_se0.25"} < names


def test_a_name_is_enough_to_make_the_operation_again() -> None:
    for spec in POOL:
        assert operation(spec.name) == spec
        owners = [family.name for family in families() if family.parse(spec.name) is not None]
        assert owners == [spec.family]


@given(spec=st.sampled_from(BUILDABLE), border=maps())
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_operations_fit_any_map(spec: OpSpec, border: tuple[TensorSpec, TensorSpec]) -> None:
    assert spec.unfit(*border) is None
    check(spec, *border)


@given(spec=st.sampled_from(BUILDABLE), border=tokens())
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_operations_fit_tokens_or_say_why_not(spec: OpSpec, border: tuple[TensorSpec, TensorSpec]) -> None:
    if spec.family == "vit" or "_1x1" in spec.name:
        check(spec, *border)
    else:
        with pytest.raises(UnfitError, match=r"does not fit .* tokens -> .* tokens: tokens have no rows and columns"):
            spec.build(*border)


@pytest.mark.parametrize("spec", BUILDABLE, ids=str)
def test_every_operation_learns_in_one_step(spec: OpSpec) -> None:
    border = TensorSpec((8, 7, 7)), TensorSpec((8, 7, 7))
    module = spec.build(*border)
    x, target = border[0].random(4), border[1].random(4)
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    before = loss(module, x, target)
    before.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert loss(module, x, target) < before


@pytest.mark.slow
@pytest.mark.parametrize("spec", BUILDABLE, ids=str)
@pytest.mark.parametrize(
    "border",
    [
        (TensorSpec((6, 33, 33)), TensorSpec((10, 17, 17))),
        (TensorSpec((16, 32, 32)), TensorSpec((16, 32, 32))),
        (TensorSpec((24, 7, 7)), TensorSpec((40, 4, 4))),
    ],
    ids=lambda border: f"{border[0]}-{border[1]}",
)
def test_every_operation_fits_the_papers_shapes(spec: OpSpec, border: tuple[TensorSpec, TensorSpec]) -> None:
    check(spec, *border)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "name", ["efn_3x3_e3_se0.25", "cb_stack_3x3_ex0.5", "repvgg_3x3", "vit_d1_w32_h4", "lambda_e1"]
)
def test_half_precision_follows_the_block(name: str, dtype: str) -> None:
    border = TensorSpec((8, 7, 7), dtype=dtype), TensorSpec((8, 7, 7), dtype=dtype)
    module = operation(name).build(*border).eval()
    assert {parameter.dtype for parameter in module.parameters()} == {border[0].torch_dtype}
    with torch.no_grad():
        y = module(border[0].random(2))
    assert y.dtype == border[1].torch_dtype
    assert y.isfinite().all()


@pytest.mark.parametrize(
    "name", ["efn_3x3_e3_se0.25", "cb_bottle_3x3_ex0.5", "conv_cs_3x3", "vit_d1_w32_h4", "bot_trans_e1"]
)
def test_channels_last_memory_gives_the_same(name: str) -> None:
    border = TensorSpec((8, 14, 14)), TensorSpec((12, 7, 7))
    module = operation(name).build(*border).eval()
    x = border[0].random(2)
    with torch.no_grad():
        plain = module(x)
        permuted = module.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(plain, permuted, rtol=1e-4, atol=1e-4)


def test_residual_only_where_shapes_agree() -> None:
    for name in ("cb_stack_3x3_ex0.5", "efn_3x3_e1_se1.00", "vit_d1_w32_h4", "bot_trans_e1", "lambda_e1", "cb_res_3x3"):
        same = operation(name).build(TensorSpec((4, 8, 8)), TensorSpec((4, 8, 8)))
        silence(same)
        x = torch.randn(2, 4, 8, 8)
        torch.testing.assert_close(same.eval()(x), x)
        other = operation(name).build(TensorSpec((4, 8, 8)), TensorSpec((4, 4, 4)))
        silence(other)
        assert not other.eval()(x).any()


def silence(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()


def loss(module: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    error: Tensor = (module(x) - target).square().mean()
    return error


def test_weights_beyond_those_of_a_network_are_refused() -> None:
    wide = TensorSpec((2048, 7, 7))
    assert operation("cb_bottle_7x7_ex4.0").unfit(wide, wide) == (
        "its 3322 million parameters take 12672 MiB; at most 512 MiB"
    )
    assert operation("cb_stack_3x3_ex1.0").unfit(wide, wide) is None
