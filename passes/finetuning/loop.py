"""One epoch of fine-tuning: cross-entropy and distillation from the teacher (HANT section 2.2 and A.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...transformer.contracts.candidate import derived_seed
from ...transformer.contracts.data import Sample
from ...transformer.contracts.data_images import batches, shuffled, size
from .recipe import FinetuneRecipe
from .state import FinetuneState


def loss_of(logits: Tensor, labels: Tensor, taught: Tensor, recipe: FinetuneRecipe) -> Tensor:
    """Return gamma_CE x cross-entropy + gamma_KL x KL(teacher || student); logits and ``taught`` are (N, classes)."""
    loss = recipe.cross_entropy * F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if recipe.distillation:
        divergence = F.kl_div(
            F.log_softmax(logits, 1), F.log_softmax(taught, 1), reduction="batchmean", log_target=True
        )
        loss = loss + recipe.distillation * divergence
    return loss


def run_epoch(
    state: FinetuneState,
    teacher: nn.Module,
    recipe: FinetuneRecipe,
    dataset: Dataset[Sample],
    augment: Callable[[Tensor, torch.Generator], Tensor] | None,
    device: torch.device,
    done: Callable[[], Any] = lambda: None,
) -> float:
    """Train for one epoch and return the mean loss, which is not finite if any step's was not.

    The order of the images, their augmentation and any dropout come from the seed and the epoch's number alone.
    """
    epoch = state.epoch
    seed = derived_seed(recipe.seed, "finetune", str(epoch)) % 2**31
    generator = torch.Generator().manual_seed(seed)
    order = shuffled(size(dataset), seed, epoch)
    total = torch.zeros((), device=device)
    state.network.train()
    teacher.eval()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for index, (images, labels) in enumerate(batches(dataset, recipe.batch_size, order, device, drop_last=True)):
            images = augment(images, generator) if augment is not None else images
            with torch.no_grad():
                taught = teacher(images) if recipe.distillation else images
            loss = loss_of(state.network(images), labels, taught, recipe)
            _step(state, loss, recipe, epoch * recipe.steps + index)
            total += loss.detach()
            done()
    return total.item() / recipe.steps


def _step(state: FinetuneState, loss: Tensor, recipe: FinetuneRecipe, step: int) -> None:
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    for group in state.optimizer.param_groups:
        group["lr"] = recipe.rate(step)
    state.optimizer.step()
    if recipe.ema:
        _average(state, recipe.ema, step)


@torch.no_grad()
def _average(state: FinetuneState, decay: float, step: int) -> None:
    """Move the average towards the weights, faster in the first steps, so that it forgets the start."""
    current = state.network.state_dict()
    if not state.average:
        state.average = {name: tensor.clone() for name, tensor in current.items()}
    share = 1 - min(decay, (1 + step) / (10 + step))
    for name, tensor in current.items():
        if tensor.is_floating_point():
            state.average[name].lerp_(tensor, share)
        else:
            state.average[name].copy_(tensor)
