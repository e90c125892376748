"""Making a network by name: timm, torchvision, or a factory in the user's own code."""

from __future__ import annotations

import difflib
import importlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...op_library.gpunet import SpaceNet
from ...op_library.gpunet import network as gpunet_network
from ...op_library.spaces import space
from ...op_library.structure import network as structure_network
from ..errors import LoadError, MissingExtraError, UsageError, nearest
from ..tools.files import expanded
from .bounded import Bounded
from .user_code import import_named

_TREATMENT = "pretrained_cfg"
"""Attribute in which timm's networks say how they want their images."""
_FORMS = "timm:NAME, torchvision:NAME, genet:NAME, gpunet:NAME, space:NAME, package.module:factory or file.py:factory"
_TOLD = re.compile(r"(timm|torchvision):[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*\Z")
"""What a file may name: models of two libraries, and none of their prefixes for what is fetched or lies elsewhere."""
_FETCHING = re.compile(r"pretrained|weights|checkpoint|cache|url|file|hub|device|dtype", re.IGNORECASE)
"""Arguments with which timm or torchvision read or fetch something; no network's shape depends on one."""
_WORD = re.compile(r"[A-Za-z0-9_]{0,60}\Z")
_LARGEST = 2**20
_LONGEST = 256
_DEEPEST = 4


def make_network(arch: str, kwargs: Mapping[str, Any], pretrained: bool = False) -> nn.Module:
    """Return the network that ``arch`` names; timm and torchvision fetch its weights if ``pretrained``.

    Raises:
        LoadError: unknown name, or the factory fails, with its words.
    """
    source, _, name = arch.rpartition(":")
    if not source or not name:
        raise LoadError(f"cannot read the architecture {arch!r}; expected {_FORMS}")
    make = {"timm": _timm, "torchvision": _torchvision, "genet": _genet, "gpunet": _gpunet, "space": _space}.get(source)
    try:
        fetched = {} if source in ("gpunet", "space") else {"pretrained": pretrained}  # there are none of these
        made = make(name, {**fetched, **kwargs}) if make else _factory(source, name)(**kwargs)
    except (LoadError, MissingExtraError, UsageError):
        raise
    except Exception as error:  # foreign code that the user named
        reason = str(error).strip().splitlines()
        raise LoadError(
            f"{arch} cannot make its network: {type(error).__name__}: {(reason or [''])[0][:200]}"
        ) from error
    if not isinstance(made, nn.Module):
        raise LoadError(f"{arch} returned a {type(made).__name__}; expected a torch.nn.Module")
    return made


def _genet(name: str, kwargs: dict[str, Any]) -> nn.Module:
    """Make a network of super-blocks from a structure's name or text (``op_library/structure.py``)."""
    if kwargs.pop("pretrained", False):
        raise LoadError(
            f"there are no weights of genet:{name} to fetch; give their file as the model, or have one trained: "
            "hant-opt design"
        )
    return structure_network(name, **kwargs)


def _gpunet(name: str, kwargs: dict[str, Any]) -> nn.Module:
    """Make a GPUNet from its name or text (``op_library/gpunet.py``), freshly initialised."""
    if kwargs.pop("pretrained", False):
        raise LoadError(f"there are no weights of gpunet:{name} to fetch; give their file as the model")
    return gpunet_network(name, **kwargs)


def _space(name: str, kwargs: dict[str, Any]) -> nn.Module:
    """Make the widest network of a space (``op_library/spaces.py``), freshly initialised."""
    return SpaceNet(space(name), **kwargs)


def make_told(arch: str, kwargs: Mapping[str, Any], file: Path, tensors: Sequence[Tensor]) -> nn.Module:
    """Return the network that a *file* names, without its weights: it must be one of timm's or torchvision's.

    Args:
        arch: the name.
        kwargs: arguments of the file.
        file: for messages.
        tensors: the file's weights, which bound what the network may take.

    Raises:
        LoadError: any other name, or arguments that are no plain data or could have something read or fetched.
    """
    if not _TOLD.match(arch):
        given = f" --arch-kwargs '{json.dumps(dict(kwargs))[:80]}'" if kwargs else ""
        raise LoadError(
            f"{file} says that {arch[:80]!r} makes its network; a file may name timm:NAME or torchvision:NAME only, "
            f"because anything else is code; if you trust it, name it yourself: --arch {arch[:80]!r}{given}"
        )
    for name, value in kwargs.items():
        if _FETCHING.search(name) or not _is_plain(name) or not _is_plain(value):
            raise LoadError(
                f"{file} gives {arch} the argument {name[:40]}={repr(value)[:40]}, which a file may not: expected "
                f"plain numbers and words that fetch nothing; give --arch {arch} and --arch-kwargs yourself"
            )
    with Bounded(f"{arch}, which {file} names,", tensors):
        return make_network(arch, kwargs)


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Return whether a file's argument is a number, a word (no path, no address) or a small nest of such."""
    if value is None or isinstance(value, bool | float):
        return True
    if isinstance(value, int):
        return abs(value) <= _LARGEST
    if isinstance(value, str):
        return _WORD.match(value) is not None
    if depth == _DEEPEST or not isinstance(value, list | dict) or len(value) > _LONGEST:
        return False
    if isinstance(value, dict) and any(_FETCHING.search(key) or not _WORD.match(key) for key in value):
        return False
    return all(_is_plain(item, depth + 1) for item in (value.values() if isinstance(value, dict) else value))


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
        if source.endswith(".py") and not expanded(source).is_file():
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
