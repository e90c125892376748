# ruff: noqa: E501  (the text of a network has long lines)
from __future__ import annotations

import hant
import pytest
import torch
from hant.transformer.errors import LoadError
from hant.transformer.ir.bind import bind
from hant.transformer.ir.parse import parse_text
from hant.transformer.ir.text import Line, Named, NetworkText, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn


def images(batch: int) -> Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(batch))


BEFORE = """\
network CifarResNet
  input %x : 3x32x32
  %regions_conv1 = block conv1(%x) : stem Run, 3x32x32 -> 8x32x32, 221184 MACs, 232 parameters, kept
  %layer1_0 = block layer1.0(%regions_conv1) : residual BasicBlock, 8x32x32 -> 8x32x32, 1179648 MACs, 1184 parameters, identity fits
  %layer1_1 = block layer1.1(%layer1_0) : residual BasicBlock, 8x32x32 -> 8x32x32, 1179648 MACs, 1184 parameters, identity fits
  %layer2_0 = block layer2.0(%layer1_1) : downsample BasicBlock, 8x32x32 -> 16x16x16, 884736 MACs, 3520 parameters
  %layer2_1 = block layer2.1(%layer2_0) : residual BasicBlock, 16x16x16 -> 16x16x16, 1179648 MACs, 4672 parameters, identity fits
  %layer3_0 = block layer3.0(%layer2_1) : downsample BasicBlock, 16x16x16 -> 32x8x8, 884736 MACs, 13952 parameters
  %layer3_1 = block layer3.1(%layer3_0) : residual BasicBlock, 32x8x8 -> 32x8x8, 1179648 MACs, 18560 parameters, identity fits
  %avg_pool2d = function torch.nn.functional.avg_pool2d(%layer3_1, 8) : 2x32x1x1
  %size = method size(%x, 0)
  %view = method view(%avg_pool2d, %size, -1) : 2x32
  %linear = block linear(%view) : head Run, 32 flat -> 10 flat, 320 MACs, 330 parameters, kept
  return %linear
"""
AFTER = BEFORE.replace(
    "%layer1_1 = block layer1.1(%layer1_0) : residual BasicBlock, 8x32x32 -> 8x32x32, 1179648 MACs, 1184 parameters",
    "%layer1_1 = block layer1.1(%layer1_0) : residual Identity, 8x32x32 -> 8x32x32, 0 MACs, 0 parameters",
)


def test_text_before_and_after_a_rewrite(cifar_resnet: nn.Module) -> None:
    graph = hant.trace(cifar_resnet, images(1))
    assert str(graph) == BEFORE
    assert str(graph.replace({"layer1.1": nn.Identity()})) == AFTER


def test_the_text_parses_back_and_computes_the_same(cifar_resnet: nn.Module) -> None:
    graph = hant.trace(cifar_resnet, images(1))
    text = parse_text(BEFORE)
    assert str(text) == BEFORE
    module = bind(text, graph.module, {b.name: b.target for b in graph.blocks})
    assert torch.equal(module(images(3)), cifar_resnet(images(3)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not end with a return line"),
        ("network N\n", "does not end with a return line"),
        ("nett N", "line 1 of the network's text: expected 'network NAME'"),
        ("network N\n return %y", "reads %y before it is made"),
        ("network N\n input %x\n input %x\n return %x", "makes %x twice"),
        ("network N\n input %x\n %y = method relu(%x\n return %y", r"line 3 .* expected '\)', got 'the end'"),
        ("network N\n input %x\n %y = magic relu(%x)\n return %y", "line 3 .* expected 'input %x'"),
        ("network N\n input %x\n %y = method relu(%x, os.system)\n return %y", "unknown word 'os.system'"),
        ("network N\n input %x\n %y = method relu(%x) more\n return %y", "expected ' : NOTE' or the end"),
        ("network N\n input %x\n %y = method f(a=1, 2)\n return %y", "positional argument follows a named one"),
        ("network N\n input %x\n return " + "(" * 99, "nested too deep"),
    ],
)
def test_bad_text_names_its_line(text: str, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        parse_text(text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%y = function os.system(%x)", "calls the function 'os.system', which is not on the allowed list"),
        (
            '%y = function getattr(%x, "__class__")',
            r"reads the attribute \('__class__',\), which is not on the allowed",
        ),
        ("%y = method numpy(%x)", "calls the method 'numpy', which is not on the allowed list"),
        ("%y = module missing(%x)", "refers to 'missing', which the module does not hold"),
        ("%y = attribute __class__", "refers to '__class__', which the module does not hold"),
    ],
)
def test_only_listed_functions_are_bound(line: str, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        bind(parse_text(f"network N\n input %x\n {line}\n return %y"), nn.Module())


names = st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.just(...)
    | st.sampled_from([Named("torch.float32"), Named("torch.channels_last"), Named("device.cpu"), Value("x")])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4), inner, max_size=2)
        | st.builds(slice, inner, inner, inner)
    ),
    max_leaves=6,
)


@given(st.lists(values, max_size=4), st.dictionaries(names, values, max_size=3), names)
@settings(max_examples=200, deadline=None)
def test_any_arguments_survive_the_text(args: list[object], kwargs: dict[str, object], name: str) -> None:
    call = Line(f"y_{name}", "method", "relu", tuple(args), tuple(kwargs.items()), "2x3")
    network = NetworkText("Net", (Line("x", "input"), call, Line("", "return", args=(Value(f"y_{name}"),))))
    assert parse_text(str(network)) == network


ALPHABET = st.sampled_from('network input block return method %x=().,:[]{}"\\ \n#-+0123456789eE\x00ü…')


def fuzz(text: str) -> None:
    try:
        again = parse_text(text)
    except LoadError:
        return
    assert parse_text(str(again)) == again


@given(st.text(ALPHABET, max_size=60), st.integers(0, len(BEFORE)), st.integers(0, 40))
@settings(max_examples=300, deadline=None)
def test_the_parser_reads_or_refuses(text: str, at: int, removed: int) -> None:
    fuzz(text)
    fuzz(BEFORE[:at] + text + BEFORE[at + removed :])


@pytest.mark.slow
def test_the_parser_survives_half_a_million_inputs() -> None:
    import random

    rng = random.Random(0)
    alphabet = 'network input block method %x=().,:[]{}"\\ \n#-+0123456789eE\x00ü'
    for _ in range(500_000):
        line = rng.choice(BEFORE.splitlines())
        at, length = rng.randrange(len(line) + 1), rng.randrange(6)
        noise = "".join(rng.choices(alphabet, k=rng.randrange(8)))
        fuzz(f"network N\n input %x\n {line[:at]}{noise}{line[at + length :]}\n return %x")
