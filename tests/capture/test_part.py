"""Parts of larger models: what control flow on data keeps from being captured whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import hant
import pytest
import torch
import torchvision
from hant.transformer.errors import CaptureError, UsageError
from torch import Tensor, nn

Randomise = Callable[[nn.Module], nn.Module]


def images(batch: int, size: int = 96) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(batch))


@pytest.fixture(scope="module")
def detector() -> nn.Module:
    torch.manual_seed(0)
    made = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, min_size=96, max_size=128
    )
    return cast(nn.Module, made).eval()


def test_a_detectors_backbone_is_captured_and_replaced_inside_of_it(detector: nn.Module) -> None:
    graph = hant.trace(detector, images(1), submodule="backbone")
    assert [str(spec) for spec in graph.inputs] == ["3x96x96"]
    with torch.no_grad():
        expected, found = detector.get_submodule("backbone")(images(3)), graph.module(images(3))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[k], found[k]) for k in expected)
        name = next(b.name for b in graph.replaceable if b.identity_allowed)
        student = graph.replace({name: nn.Identity()})
        whole = student.whole
        assert whole.backbone is student.network
        assert whole.roi_heads is detector.roi_heads
        assert isinstance(whole.get_submodule(f"backbone.{name}"), nn.Identity)
        assert not isinstance(detector.get_submodule(f"backbone.{name}"), nn.Identity)
        assert whole(images(2))[0].keys() == {"boxes", "labels", "scores"}


def test_a_segmenters_backbone_is_exact(randomise: Randomise) -> None:
    made = torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    model = randomise(made).eval()
    graph = hant.trace(model, images(1), submodule="backbone")
    with torch.no_grad():
        expected, found = model.get_submodule("backbone")(images(2)), graph.module(images(2))
        assert all(torch.equal(expected[k], found[k]) for k in expected)
        assert torch.equal(graph.whole(images(2))["out"], model(images(2))["out"])


def test_the_heads_of_a_pyramid_are_tied_blocks(randomise: Randomise) -> None:
    from torchvision.models.detection.retinanet import RetinaNetHead

    class Detector(nn.Module):
        """Hands a list of five levels to its head."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.ModuleList(nn.Conv2d(3 if i == 0 else 16, 16, 3, 2, 1) for i in range(5))
            self.head = RetinaNetHead(16, num_anchors=2, num_classes=3)

        def forward(self, x: Tensor) -> Tensor:
            levels: list[Tensor] = []
            for layer in self.backbone:
                levels.append(layer(levels[-1] if levels else x))
            out = self.head(levels)
            logits: Tensor = out["cls_logits"]
            return logits if out["bbox_regression"].sum() > 0 else -logits

    model = randomise(Detector()).eval()
    graph = hant.trace(model, images(1), submodule="head")
    assert {b.name: b.calls for b in graph.replaceable} == {
        f"{head}.{part}": 5
        for head, last in (("classification_head", "cls_logits"), ("regression_head", "bbox_reg"))
        for part in ("conv", last)
    }
    assert str(graph.block("classification_head.conv").other_calls[3][0]) == "16x3x3"
    levels = [torch.randn(3, 16, size, size) for size in (48, 24, 12, 6, 3)]
    with torch.no_grad():
        expected, found = model.get_submodule("head")(levels), graph.module(levels)
    assert all(torch.equal(expected[k], found[k]) for k in expected)
    student = graph.replace({"classification_head.conv": nn.Conv2d(16, 16, 1)})
    assert student.whole(images(2)).shape == model(images(2)).shape
    assert isinstance(student.whole.get_submodule("head.classification_head.conv"), nn.Conv2d)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("bakbone", UsageError, r"no submodule 'bakbone'; did you mean 'backbone'"),
        (
            "rpn",
            CaptureError,
            r"submodule rpn is called with ImageList, OrderedDict, NoneType; .* choose one inside or around it",
        ),
        ("backbone.fpn.inner_blocks", CaptureError, "does not call submodule backbone.fpn.inner_blocks on this input"),
    ],
)
def test_a_part_that_cannot_be_captured_is_named(
    detector: nn.Module, path: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        hant.trace(detector, images(1), submodule=path)
    assert not detector.get_submodule("rpn")._forward_pre_hooks
    with pytest.raises(CaptureError, match=r"the model fails before it calls submodule rpn: .*check --input-shape"):
        hant.trace(detector, torch.rand(1, 3), submodule="rpn")
