"""Where data comes from: the embedded digits, folders of images, and functions of the user."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from ..errors import LoadError, UsageError, nearest
from .data import Data
from .data_cifar import cifar10
from .data_digits import digits
from .data_folder import imagefolder
from .data_images import Normalization, Shape

NORMALIZATIONS = {
    "imagenet": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "half": Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": Normalization((), ()),
}
"""Channel means and deviations of pixels in 0..1; ``none`` leaves pixels in 0..1."""

_FOLDERS: dict[str, Callable[..., Data]] = {
    "cifar10": cifar10,
    "imagefolder": imagefolder,
}
_KNOWN = ("digits", "cifar10:DIR", "imagefolder:DIR", "package.module:function", "file.py:function")


def names_code(spec: str) -> bool:
    """Return whether loading what ``spec`` names runs code that it names: a function of the user."""
    name, colon, _ = spec.partition(":")
    return spec != "digits" and not (colon and name in _FOLDERS)


def load_data(spec: str, input_shape: Shape | None = None) -> Data:
    """Return the data that ``spec`` names.

    1. ``digits``: the 1,797 handwritten digits of scikit-learn.
    2. ``cifar10:DIR``: CIFAR-10 in one of its usual layouts.
    3. ``imagefolder:DIR``: ``train/CLASS/*`` and ``val/CLASS/*`` or ``test/CLASS/*``.
    4. ``package.module:function`` or ``file.py:function``: what the user's function returns, a ``hant.Data``.

    2 and 3 normalise with ImageNet's statistics, or ``DIR?normalize=NAME`` (``imagenet``, ``cifar10``, ``half``,
    ``none``), as the teacher was trained. 3 takes ``augment=POLICY`` too, for fine-tuning with timm's augmentation.

    Args:
        spec: one of the above.
        input_shape: (C, H, W) of the network's input; images are made to fit where the source allows it.

    Raises:
        UsageError: the specification or what it points to is not usable.
    """
    name, colon, rest = spec.partition(":")
    if spec == "digits":
        return digits(input_shape or (1, 32, 32))
    if name in _FOLDERS and colon:
        path, _, query = rest.partition("?")
        normalize, more = _options_of(spec, query, ("augment",) if name == "imagefolder" else ())
        return _FOLDERS[name](Path(path), input_shape, NORMALIZATIONS[normalize], normalize, *more.values())
    place, colon, function = spec.rpartition(":")
    if colon and function.isidentifier() and (place.endswith(".py") or name not in ("digits",)):
        return _call(spec, _import(spec, place), function)
    raise UsageError(f"unknown data {spec!r}, expected {_options()}{_hint(name)}")


def _options() -> str:
    return ", ".join(_KNOWN[:-1]) + f" or {_KNOWN[-1]}"


def _hint(name: str) -> str:
    close = nearest(name, ["digits", *_FOLDERS])
    return close.partition(" known")[0] if "did you mean" in close else ""


def _options_of(spec: str, query: str, more: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """Return the normalisation that a query such as ``normalize=half`` asks for, and the other options it gives."""
    options = dict(parse_qsl(query, keep_blank_values=True))
    normalize = options.pop("normalize", "imagenet")
    unknown = [option for option in options if option not in more]
    if unknown:
        known = ", ".join(("normalize", *more))
        raise UsageError(f"unknown option {unknown[0]!r} of data {spec!r}; known: {known}")
    if normalize not in NORMALIZATIONS:
        raise UsageError(f"unknown normalisation {normalize!r} of data {spec!r}{nearest(normalize, NORMALIZATIONS)}")
    return normalize, options


def _import(spec: str, place: str) -> Any:
    """Import a module by name or by file."""
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        if not Path(place).is_file():
            raise UsageError(f"data {spec!r}: no file {place}")
        found = importlib.util.spec_from_file_location(Path(place).stem, place)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules.setdefault(found.name, module)
        found.loader.exec_module(module)
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        hint = _hint(place)
        raise UsageError(f"data {spec!r}: no module {error.name!r}{hint}; expected {_options()}") from error
    except Exception as error:
        raise LoadError(f"data {spec!r}: importing {place} failed: {type(error).__name__}: {error}") from error
    return module


def _call(spec: str, module: Any, function: str) -> Data:
    """Call the user's function and check what it returns."""
    make = getattr(module, function, None)
    if not callable(make):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UsageError(f"data {spec!r}: {module.__name__} has no function {function!r}{nearest(function, names)}")
    try:
        data = make()
    except Exception as error:
        raise LoadError(f"data {spec!r}: {function}() failed: {type(error).__name__}: {error}") from error
    if not isinstance(data, Data):
        raise UsageError(f"data {spec!r}: {function}() returned {type(data).__name__}, expected hant.Data(train, test)")
    return data
