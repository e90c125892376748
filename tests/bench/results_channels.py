"""Networks with fewer channels than the teacher: two pruners, and the same architecture made narrower."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from hant.examples.cifar10 import network as architectures
from hant.passes.networks.evaluate import evaluate
from hant.tests.bench.results_common import Study
from hant.transformer.data.images import batches
from hant.transformer.data.splits import split, take
from safetensors.torch import load_file
from torch import Tensor, nn

STEP = 4
"""Numbers of channels are multiples of it: others are slower on a CPU than the next larger multiple."""
FASTNAS_IMAGES = 512
"""Held-out training images on which FastNAS scores a network."""
_BATCHES, _BATCH = 8, 64
"""Training images for Taylor's gradients and for FastNAS's batch norms."""


def prunable(study: Study) -> nn.Module:
    """Return the teacher with convolutions in place of padded shortcuts: pruners cannot follow a fixed padding."""
    args = study.args
    network = architecture(args.teacher)
    network.load_state_dict(load_file(args.data / "teachers" / f"{args.teacher}.safetensors"), strict=False)
    for name, module in list(network.named_modules()):
        if isinstance(module, architectures.Shortcut):
            inputs = 2 * module.extra  # every stage doubles the channels
            shortcut = nn.Conv2d(inputs, 2 * inputs, 1, stride=2, bias=False)
            nn.init.zeros_(shortcut.weight)
            with torch.no_grad():
                shortcut.weight[module.extra : module.extra + inputs, :, 0, 0] = torch.eye(inputs)
            network.set_submodule(name, shortcut)
    return network.eval()


def taylor(study: Study, share: float) -> nn.Module:
    """Return the teacher pruned by Torch-Pruning to a share of its channels, by first-order Taylor importance."""
    import torch_pruning

    network = prunable(study)
    pruner = torch_pruning.pruner.BasePruner(
        network,
        torch.zeros(1, 3, 32, 32),
        importance=torch_pruning.importance.GroupTaylorImportance(),
        global_pruning=True,
        pruning_ratio=1 - share,
        ignored_layers=[network.linear],
        round_to=STEP,
    )
    for images, labels in training_batches(study):
        torch.autograd.backward(F.cross_entropy(network(images), labels))
    pruner.step()
    network.zero_grad()
    return network


def fastnas(study: Study, share: float) -> nn.Module:
    """Return what NVIDIA's FastNAS finds at a share of the teacher's FLOPs, with the accuracy as its score."""
    from modelopt.torch.prune import prune
    from modelopt.torch.prune.fastnas import FastNASConfig

    held_out = take(split(study.context().dataset, study.args.seed).held_out, study.args.fastnas_images)
    config = FastNASConfig()
    config["nn.Conv2d"]["*"]["channel_divisor"] = STEP
    config["nn.BatchNorm2d"]["*"]["feature_divisor"] = STEP
    search = {
        "score_func": lambda network: evaluate(network, held_out).accuracy,
        "data_loader": training_batches(study),
        "collect_func": lambda batch: batch[0],
        "checkpoint": str(study.context().store.path("fastnas.pth")),  # scores of single layers, for every budget
        "verbose": False,
    }
    network, _ = prune(
        prunable(study), [("fastnas", config)], {"flops": f"{100 * share}%"}, torch.zeros(1, 3, 32, 32), search
    )
    return cast(nn.Module, network)


def narrow(study: Study, share: float) -> nn.Module:
    """Return the teacher's architecture with a share of its channels in every layer, with new weights."""
    network = architecture(study.args.teacher)
    depth = len(network.layer1)
    first, second, third = (max(STEP, round(share * width / STEP) * STEP) for width in (16, 32, 64))
    network.conv1, network.bn1 = nn.Conv2d(3, first, 3, padding=1, bias=False), nn.BatchNorm2d(first)
    network.layer1 = network._stage(first, first, depth)
    network.layer2 = network._stage(first, second, depth)
    network.layer3 = network._stage(second, third, depth)
    network.linear = nn.Linear(third, 10)
    return network


def architecture(teacher: str) -> architectures.CifarResNet:
    made: architectures.CifarResNet = getattr(architectures, teacher.rpartition("-")[2])()
    return made


def training_batches(study: Study) -> list[tuple[Tensor, Tensor]]:
    """Return a few batches of training images with their labels."""
    fit = split(study.context().dataset, study.args.seed).fit
    return list(batches(take(fit, _BATCHES * _BATCH), _BATCH))
