"""The teacher, its data and its example inputs, from the configuration."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..contracts.data import Data
from ..errors import LoadError, UsageError
from .config import Config
from .shapes import examples, parse_shape, text
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
    named = config.model.startswith(("timm:", "torchvision:"))
    if config.model and not named and not Path(config.model).is_file():
        what = "is a directory without a run in it" if Path(config.model).is_dir() else "does not exist"
        raise LoadError(f"model {config.model} {what}; expected a .pt, .safetensors or .pt2 file, or a run directory")
    from ..capture.load import load

    return load(config.model or None, config.arch, config.trust_model, config.arch_kwargs).eval()


def load_data(config: Config, model: nn.Module) -> Data:
    """Return the configured data, in the network's input shape where that is known."""
    from ..contracts.data_sources import load_data as load

    assert config.data is not None
    check_trust(config)
    _check_given("data", config.data)
    shapes = declared_shapes(config, model)
    shape = shapes[0] if len(shapes) == 1 and len(shapes[0]) == 3 else None
    return load(config.data, shape)


def declared_shapes(config: Config, model: nn.Module) -> tuple[tuple[int, ...], ...]:
    """Return the input shapes that the user or the checkpoint declares, for one sample; empty if neither does."""
    if config.input_shape:
        return tuple(parse_shape(item) for item in config.input_shape)
    from ..capture.load import input_shapes

    return input_shapes(model)


def example_inputs(config: Config, model: nn.Module, data: Data | None) -> tuple[Tensor, ...]:
    """Return example inputs that the model has been run on.

    Their shape is that of ``--input-shape``, of the checkpoint, or of the data, in this order.

    Raises:
        UsageError: no shape is known, the data's shape differs, or the model refuses the shape.
    """
    shapes = declared_shapes(config, model)
    if data is not None:
        sample = tuple(data.train[0][0].shape)
        shapes = shapes or (sample,)
        if shapes != (sample,):
            wanted = " and ".join(text(shape) for shape in shapes)
            raise UsageError(
                f"data {data.name} has images of {text(sample)}, the network takes {wanted}; "
                f"give --input-shape {text(sample)} or other --data"
            )
    if not shapes:
        raise UsageError("the input shape is not known; give --input-shape such as 3x224x224, or --data")
    inputs = examples(shapes)
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
    sample = tuple(data.train[0][0].shape) if data is not None else None
    if sample is not None and [tuple(t.shape[1:]) for t in given if isinstance(t, Tensor)] != [sample]:
        raise UsageError(f"submodule {path} is not given the images of {text(sample)}; leave --data out")
    return module, given


def _try(model: nn.Module, inputs: tuple[Tensor, ...], shapes: tuple[tuple[int, ...], ...]) -> None:
    """Run the model once, so that a wrong shape is told before any work."""
    try:
        with torch.no_grad():
            model(*inputs)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        wanted = " and ".join(text(shape) for shape in shapes)
        raise UsageError(
            f"the model does not take inputs of {wanted}: {reason}; give the right --input-shape"
        ) from error


def _check_given(what: str, value: str) -> None:
    """Refuse what a program gave as an object: a command cannot have it."""
    if value.startswith("<"):
        raise UsageError(
            f"the run was made by a program that gave its {what} {value} as an object; go on from that program, "
            f"or give the {what} by name"
        )
