"""The teacher, its data and its example inputs, from the configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ...op_library.spaces import PREFIX
from ..contracts.data import Data
from ..data.check import label_range, sample
from ..data.folder import USUAL
from ..data.images import Normalization
from ..data.pixels import WAYS, Preprocessing, View
from ..errors import HantError, LoadError, UsageError
from ..tools.own_words import own_words
from ..tools.seeds import derived_seed
from ..tools.shapes import examples, parse_shape, text
from ..tools.wrappers import unwrapped
from .config import Config
from .trust import check_trust


def load_model(config: Config) -> nn.Module:
    """Return the teacher in eval mode.

    Raises:
        UsageError: no file and no architecture given, or unreadable.
    """
    if not config.model and not config.arch:
        raise UsageError("no model given; give a model file, or --arch timm:resnet18")
    check_trust(config)
    _check_given("model", config.model)
    named = config.model.startswith(("timm:", "torchvision:", "genet:", "gpunet:", "space:"))
    if config.model and not named and not Path(config.model).is_file():
        what = "is a directory without a run in it" if Path(config.model).is_dir() else "does not exist"
        raise LoadError(f"model {config.model} {what}; expected a .pt, .safetensors or .pt2 file, or a run directory")
    from ..files.load import load

    model = unwrapped(load(config.model or None, config.arch, config.trust_model, config.arch_kwargs)).eval()
    placed = any(tensor.is_cuda for tensor in (*model.parameters(), *model.buffers()))
    return model.cpu() if placed else model  # the user's factory may have put it on its device


def of_space(config: Config) -> bool:
    """Return whether the model is a space that is searched from nothing."""
    return (config.model or config.arch or "").startswith(PREFIX)


def space_network(config: Config, data: Data | None) -> nn.Module:
    """Return the widest network of the configured space, with the classes and channels of ``data``; weights by seed."""
    kwargs = dict(config.arch_kwargs)
    if data is not None:
        told = {"num_classes": label_range(data)[1] + 1, "in_chans": sample(data, "train", 0)[0].shape[0]}
        kwargs = told | kwargs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(config.seed, "space") % 2**63)
        return load_model(config.model_copy(update={"arch_kwargs": kwargs}))


def load_data(config: Config, model: nn.Module) -> Data:
    """Return the configured data, in the network's input shape where that is known."""
    from ..data.sources import load_data as load

    assert config.data is not None
    check_trust(config)
    _check_given("data", config.data)
    shapes = declared_shapes(config, model)
    shape = shapes[0] if len(shapes) == 1 and len(shapes[0]) == 3 else None
    outputs = _outputs(model, shape or USUAL) if config.data.startswith("imagefolder:") else None
    return load(config.data, shape, told=preprocessing(model), outputs=outputs, classes=config.classes)


def preprocessing(model: nn.Module) -> Preprocessing:
    """Return how the network wants its images, where its library says: timm's ``pretrained_cfg``, or torchvision's
    weights.
    """
    told = getattr(model, "pretrained_cfg", None)
    if not isinstance(told, Mapping):
        return Preprocessing()
    crop, size, ways = told.get("crop_pct"), told.get("input_size"), told.get("interpolation")
    if crop and size:
        crop = size[-1] / math.floor(size[-1] / crop + 1e-6)  # the shorter side is resized to whole pixels
    view = View(crop, ways) if ways in WAYS else View(crop)
    mean, std = told.get("mean"), told.get("std")
    return Preprocessing(Normalization(tuple(mean), tuple(std)) if mean and std else None, view)


def _outputs(model: nn.Module, shape: tuple[int, ...]) -> int | None:
    """Return how many classes the network tells apart; None if that cannot be seen."""
    try:
        with torch.no_grad():
            logits = model(*examples((shape,)))
    except Exception:  # the user's own forward: said where the example inputs are made
        return None
    return logits.shape[1] if isinstance(logits, Tensor) and logits.ndim == 2 else None


def declared_shapes(config: Config, model: nn.Module) -> tuple[tuple[int, ...], ...]:
    """Return the input shapes that the user or the checkpoint declares, for one sample; empty if neither does."""
    if config.input_shape:
        return tuple(parse_shape(item) for item in config.input_shape)
    from ..files.load import input_shapes

    return input_shapes(model)


def example_inputs(config: Config, model: nn.Module, data: Data | None) -> tuple[Tensor, ...]:
    """Return example inputs that the model has been run on.

    Their shape is that of ``--input-shape``, of the checkpoint, or of the data, in this order.

    Raises:
        UsageError: no shape is known, the data's shape differs, or the model refuses the shape.
    """
    shapes = declared_shapes(config, model)
    if data is not None:
        image = sample(data, "train", 0)[0]
        if not image.is_floating_point():
            kind = str(image.dtype).removeprefix("torch.")
            raise UsageError(
                f"data {data.name} has images of type {kind}; expected float: return image.float(), and where the "
                "network takes bytes, leave what it does to them first out of it"
            )
        given = tuple(image.shape)
        shapes = shapes or (given,)
        if shapes != (given,):
            wanted = " and ".join(text(shape) for shape in shapes)
            turned = shapes == ((given[-1], *given[:-1]),)
            advice = (
                "the channels come first: image.permute(2, 0, 1)"
                if turned
                else f"give --input-shape {text(given)} or other --data"
            )
            raise UsageError(f"data {data.name} has images of {text(given)}, the network takes {wanted}; {advice}")
    if not shapes:
        raise UsageError("the input shape is not known; give --input-shape such as 3x224x224, or --data")
    inputs = examples(shapes)
    _check_place(model)
    _try(model, inputs, shapes)
    return inputs


def part(
    model: nn.Module, path: str, inputs: tuple[Tensor, ...], data: Data | None
) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the submodule to work on and what the model gives it.

    Raises:
        UsageError: there is none, or it is not given the images of ``data``.
        CaptureError: it is given something else than tensors.
    """
    from ..capture.part import part_of

    module, given = part_of(model, path, inputs)
    image = tuple(sample(data, "train", 0)[0].shape) if data is not None else None
    if image is not None and [tuple(t.shape[1:]) for t in given if isinstance(t, Tensor)] != [image]:
        raise UsageError(f"submodule {path} is not given the images of {text(image)}; leave --data out")
    return module, given


def _try(model: nn.Module, inputs: tuple[Tensor, ...], shapes: tuple[tuple[int, ...], ...]) -> None:
    """Run the model once, so that a wrong shape, or a model that fails by itself, is told before any work."""
    wanted = " and ".join(text(shape) for shape in shapes)
    try:
        with torch.no_grad():
            model(*inputs)
    except HantError:
        raise
    except Exception as error:
        kinds = {
            str(tensor.dtype).removeprefix("torch.") for tensor in model.parameters() if tensor.is_floating_point()
        }
        others = " and ".join(sorted(kinds - {"float32"}))
        advice = "give the right --input-shape, or mend the model"
        if others:
            advice = f"its weights are {others}, images are float32: give model.float()"
        raise UsageError(f"the model does not take inputs of {wanted}: {own_words(error)}; {advice}") from error


def _check_place(model: nn.Module) -> None:
    """Refuse a model that is not on the CPU, where it is captured."""
    places = {str(tensor.device) for tensor in (*model.parameters(), *model.buffers())} - {"cpu"}
    if places:
        raise UsageError(
            f"the model is on {' and '.join(sorted(places))}, it is captured on the CPU; give model.cpu(): "
            "--device says where training runs"
        )


def _check_given(what: str, value: str) -> None:
    """Refuse what a program gave as an object: a command cannot have it."""
    if value.startswith("<"):
        raise UsageError(
            f"the run was made by a program that gave its {what} {value} as an object; go on from that program, "
            f"or give the {what} by name"
        )
