"""Where data comes from: the embedded digits, folders of images, and functions of the user."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qsl

from ..contracts.data import Data
from ..errors import LoadError, UsageError, nearest
from ..files.user_code import import_named
from ..tools.files import expanded
from .check import check_data
from .cifar import cifar10
from .digits import digits
from .folder import BROKEN_SHARE, imagefolder
from .images import Normalization, Shape
from .pixels import UNKNOWN, Preprocessing

NORMALIZATIONS = {
    "imagenet": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "half": Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": Normalization((), ()),
}
"""Channel means and deviations of pixels in 0..1; ``none`` leaves pixels in 0..1."""

FOLDERS = ("cifar10", "imagefolder")
"""Data that are named ``KIND:DIR?OPTIONS``; anything else but the digits is code of the user."""
_KNOWN = ("digits", "cifar10:DIR", "imagefolder:DIR", "package.module:function", "file.py:function")


def names_code(spec: str) -> bool:
    """Return whether loading what ``spec`` names runs code that it names: a function of the user."""
    name, colon, _ = spec.partition(":")
    return spec != "digits" and not (colon and name in FOLDERS)


def split_folder(text: str) -> tuple[str, str]:
    """Return folder and options of ``DIR?OPTIONS``; of a folder that is there the name may hold ``?`` too."""
    ends = [len(text), *(place for place in reversed(range(len(text))) if text[place] == "?")]
    end = next((end for end in ends if os.path.isdir(expanded(text[:end]))), text.find("?"))
    return (text, "") if end < 0 else (text[:end], text[end + 1 :])


def load_data(
    spec: str,
    input_shape: Shape | None = None,
    *,
    told: Preprocessing = UNKNOWN,
    outputs: int | None = None,
    classes: str | None = None,
) -> Data:
    """Return the data that ``spec`` names.

    1. ``digits``: the 1,797 handwritten digits of scikit-learn.
    2. ``cifar10:DIR``: CIFAR-10 in one of its usual layouts, normalised with its own statistics.
    3. ``imagefolder:DIR``: ``train/CLASS/*`` and ``val/CLASS/*`` or ``test/CLASS/*``, treated as ``told``.
    4. ``package.module:function`` or ``file.py:function``: what the user's function returns, a ``hant.Data``.

    2 and 3 take ``DIR?normalize=NAME`` (``imagenet``, ``cifar10``, ``half``, ``none``), 3 also ``augment=POLICY``, for
    fine-tuning with timm's augmentation, and ``broken=1%``, the share of images that may be broken.

    Args:
        spec: one of the above.
        input_shape: (C, H, W) of the network's input; images are made to fit where the source allows it.
        told: how the network wants its images, as far as its library says.
        outputs: classes that the network tells apart; None if not known.
        classes: file that says which class folder is which output of the network.

    Raises:
        UsageError: the specification or what it points to is not usable.
    """
    name, colon, rest = spec.partition(":")
    if classes is not None and name != "imagefolder":
        raise UsageError(f"--classes says which folder of imagefolder:DIR is which output; {spec!r} has none")
    if spec == "digits":
        return digits(input_shape or (1, 32, 32))
    if name in FOLDERS and colon:
        path, query = split_folder(rest)
        place = expanded(path)
        if name == "cifar10":
            normalize = _options_of(spec, query, ())["normalize"] or "cifar10"
            return cifar10(place, input_shape, NORMALIZATIONS[normalize], normalize)
        options = _options_of(spec, query, ("augment", "broken"))
        return imagefolder(
            place,
            input_shape,
            *_treatment(options["normalize"], told),
            options["augment"],
            view=told.view,
            broken=_share(spec, options["broken"]),
            outputs=outputs,
            class_file=expanded(classes) if classes else None,
        )
    module, colon, function = spec.rpartition(":")
    if colon and function.isidentifier() and (module.endswith(".py") or name not in ("digits",)):
        return _call(spec, _import(spec, module), function)
    raise UsageError(f"unknown data {spec!r}, expected {_options()}{_hint(name)}")


def _treatment(name: str | None, told: Preprocessing) -> tuple[Normalization, str]:
    """Return the normalisation, and what the data's name says of how pixels are treated."""
    normalization = NORMALIZATIONS[name] if name else told.normalization or NORMALIZATIONS["imagenet"]
    named = next((known for known, values in NORMALIZATIONS.items() if values == normalization), None)
    text = named or ",".join(f"{value:.4g}" for value in (*normalization.mean, *normalization.std))
    view = told.view
    if view.crop is not None:
        text += f"&crop={view.crop:.4g}"
    return normalization, text if view.interpolation == "bilinear" else f"{text}&interpolation={view.interpolation}"


def _share(spec: str, text: str | None) -> float:
    """Read ``1%`` or ``0.01``."""
    try:
        share = BROKEN_SHARE if text is None else float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"data {spec!r}: broken is {text!r}; expected a share of the images such as 1% or 0.01")
    return share


def _options() -> str:
    return ", ".join(_KNOWN[:-1]) + f" or {_KNOWN[-1]}"


def _hint(name: str) -> str:
    close = nearest(name, ["digits", *FOLDERS])
    return close.partition(" known")[0] if "did you mean" in close else ""


def _options_of(spec: str, query: str, more: tuple[str, ...]) -> dict[str, str | None]:
    """Return ``normalize`` and the options called ``more`` of a query such as ``normalize=half``; None if not given."""
    known = ("normalize", *more)
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = [option for option in options if option not in known]
    if unknown:
        raise UsageError(f"unknown option {unknown[0]!r} of data {spec!r}; known: {', '.join(known)}")
    normalize = options.get("normalize")
    if normalize is not None and normalize not in NORMALIZATIONS:
        raise UsageError(f"unknown normalisation {normalize!r} of data {spec!r}{nearest(normalize, NORMALIZATIONS)}")
    return {option: options.get(option) for option in known}


def _import(spec: str, place: str) -> Any:
    """Import a module by name or by file."""
    try:
        return import_named(place)
    except ModuleNotFoundError as error:
        hint = _hint(place)
        raise UsageError(f"data {spec!r}: no module {error.name!r}{hint}; expected {_options()}") from error
    except Exception as error:
        if place.endswith(".py") and not expanded(place).is_file():
            raise UsageError(f"data {spec!r}: no file {place}") from error
        raise LoadError(f"data {spec!r}: importing {place} failed: {type(error).__name__}: {error}") from error


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
    check_data(data)
    return data
