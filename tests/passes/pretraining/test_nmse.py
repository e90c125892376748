from __future__ import annotations

import pytest
import torch
from hant.passes.pretraining.nmse import nmse
from torch.nn.functional import mse_loss


def pair(kind: torch.dtype, other: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features, wanted = (torch.randn(3, 4, 5, 6, generator=generator) for _ in range(2))
    return features.to(kind).requires_grad_(), wanted.to(other)


@pytest.mark.parametrize(
    ("kind", "other", "close"),
    [
        (torch.float32, torch.float32, 1e-6),
        (torch.float64, torch.float64, 1e-12),
        (torch.bfloat16, torch.bfloat16, 2e-2),
        (torch.float32, torch.bfloat16, 1e-6),
        (torch.bfloat16, torch.float32, 2e-2),
    ],
)
def test_value_and_gradient_are_those_of_mse_loss_over_the_variance(
    kind: torch.dtype, other: torch.dtype, close: float
) -> None:
    features, wanted = pair(kind, other)
    variance = torch.tensor(2.5)
    loss = nmse(features, wanted, variance)
    assert loss.dtype == torch.promote_types(kind, torch.float32)
    (3 * loss).backward()  # type: ignore[no-untyped-call]
    exact = features.detach().double().requires_grad_()
    expected = mse_loss(exact, wanted.double()) / 2.5
    (3 * expected).backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected.item(), rel=close)
    assert features.grad is not None
    assert exact.grad is not None
    assert features.grad.dtype == kind
    assert (features.grad.double() - exact.grad).norm() <= close * exact.grad.norm()


def test_sums_of_half_precision_features_do_not_overflow() -> None:
    features = torch.full((1000, 1000), 100.0, dtype=torch.float16)
    assert nmse(features, torch.zeros_like(features), 1.0).item() == pytest.approx(
        10_000, rel=1e-2
    )  # the sum of squares is 1e10


def test_equal_features_have_no_error_and_no_gradient() -> None:
    features = torch.ones(2, 3, requires_grad=True)
    nmse(features, torch.ones(2, 3), 0.5).backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    assert not features.grad.any()
