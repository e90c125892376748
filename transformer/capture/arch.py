"""Making a network by name: timm, torchvision, or a factory in the user's own code."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import LoadError, MissingExtraError, nearest
from .user_code import import_named

_TREATMENT = "pretrained_cfg"
"""Attribute in which timm's networks say how they want their images."""
_FORMS = "timm:NAME, torchvision:NAME, package.module:factory or file.py:factory"


def make_network(arch: str, kwargs: Mapping[str, Any], pretrained: bool = False) -> nn.Module:
    """Return the network that ``arch`` names; timm and torchvision fetch its weights if ``pretrained``.

    Raises:
        LoadError: unknown name, or the factory fails, with its words.
    """
    source, _, name = arch.rpartition(":")
    if not source or not name:
        raise LoadError(f"cannot read the architecture {arch!r}; expected {_FORMS}")
    make = {"timm": _timm, "torchvision": _torchvision}.get(source)
    try:
        made = make(name, {"pretrained": pretrained, **kwargs}) if make else _factory(source, name)(**kwargs)
    except (LoadError, MissingExtraError):
        raise
    except Exception as error:  # foreign code that the user named
        reason = str(error).strip().splitlines()
        raise LoadError(
            f"{arch} cannot make its network: {type(error).__name__}: {(reason or [''])[0][:200]}"
        ) from error
    if not isinstance(made, nn.Module):
        raise LoadError(f"{arch} returned a {type(made).__name__}; expected a torch.nn.Module")
    return made


def _timm(name: str, kwargs: dict[str, Any]) -> nn.Module:
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise MissingExtraError("timm", "timm", f"architecture timm:{name}") from error
    if not timm.is_model(name.split(".")[0]):
        raise LoadError(f"timm has no model {name!r}{_similar(name.split('.')[0], timm.list_models())}")
    made: nn.Module = timm.create_model(name, **kwargs)
    return made


def _torchvision(name: str, kwargs: dict[str, Any]) -> nn.Module:
    try:
        models = importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError) as error:
        raise MissingExtraError("torchvision", "timm", f"architecture torchvision:{name}") from error
    if name not in models.list_models():
        raise LoadError(f"torchvision has no model {name!r}{_similar(name, models.list_models())}")
    if kwargs.pop("pretrained", False):
        kwargs.setdefault("weights", "DEFAULT")
    elif any(part in name for part in ("rcnn", "retinanet", "fcos", "ssd", "deeplab", "fcn", "lraspp")):
        kwargs.setdefault("weights_backbone", None)
    made: nn.Module = models.get_model(name, **kwargs)
    weights = kwargs.get("weights")
    if weights is not None:
        setattr(made, _TREATMENT, _told(models, name, weights))
    return made


def _told(models: Any, name: str, weights: Any) -> dict[str, Any]:
    """Return how torchvision's weights want their images, in timm's words; nothing where they do not say."""
    known = models.get_model_weights(name)
    chosen = known[str(weights).rpartition(".")[2]] if isinstance(weights, str) else weights
    wanted = chosen.transforms()
    if not all(hasattr(wanted, word) for word in ("crop_size", "resize_size", "mean", "std", "interpolation")):
        return {}
    side = wanted.crop_size[0]
    return {
        "input_size": (len(wanted.mean), side, side),
        "crop_pct": side / wanted.resize_size[0],
        "interpolation": wanted.interpolation.value,
        "mean": tuple(wanted.mean),
        "std": tuple(wanted.std),
    }


def _similar(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(close)}?" if close else f"; it has {len(known)} others"


def _factory(source: str, name: str) -> Callable[..., Any]:
    try:
        module = import_named(source)
    except FileNotFoundError as error:
        if source.endswith(".py") and not Path(source).expanduser().is_file():
            raise LoadError(f"architecture file {source} does not exist") from error
        raise
    except ModuleNotFoundError as error:
        raise LoadError(f"cannot import {source!r}: {error}; expected {_FORMS}") from error
    try:
        factory = getattr(module, name)
    except AttributeError as error:
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise LoadError(f"{source} has no {name!r}{nearest(name, known)}") from error
    if not callable(factory):
        raise LoadError(f"{source}:{name} is a {type(factory).__name__}; expected a class or function")
    made: Callable[..., Any] = factory
    return made
