# ruff: noqa: E501  (the text of a network has long lines)
from __future__ import annotations

import hant
import torch
from hant.transformer.ir.text import write
from torch import Tensor, fx, nn


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


def test_arguments_are_written_as_they_are_read_in_python() -> None:
    values = [
        fx.Graph().placeholder("x"),
        torch.float32,
        torch.device("cpu"),
        "a\n",
        float("inf"),
        ...,
        slice(None, 2),
        (1,),
        [True],
        {"k": None},
    ]
    written = [
        "%x",
        "torch.float32",
        "device.cpu",
        '"a\\n"',
        "float.inf",
        "...",
        "slice(None, 2, None)",
        "(1,)",
        "[True]",
        '{"k": None}',
    ]
    assert [write(value) for value in values] == written
