"""Which output of a network the images of a class folder belong to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import LoadError, MissingExtraError, UsageError

_SYNSET = re.compile(r"n\d{8}")
"""Name of a class of ImageNet, such as ``n01440764``."""
_IMAGENET = {1000: "imagenet-1k", 11821: "imagenet-12k", 21841: "imagenet-22k", 21843: "imagenet-21k"}
"""Outputs of a network -> timm's name of the classes that they are."""
_ADVICE = "give --classes FILE with the folder of each output, one a line"


def class_outputs(root: Path, folders: Sequence[str], outputs: int | None, file: Path | None) -> dict[str, int]:
    """Return the network's output for each class folder.

    1. With ``file``, a text: line i names the folder of output i, as its first word or as the whole line.
    2. As many folders as outputs, or outputs not known: in the order of their names.
    3. Folders named by synsets of ImageNet, such as ``n01440764``: timm's table of the network's classes.

    Raises:
        UsageError: folders and outputs do not fit together.
        LoadError: the file cannot be read.
    """
    if file is not None:
        return _placed(folders, _lines(file), str(file), outputs)
    if outputs is None or len(folders) == outputs:
        return {name: place for place, name in enumerate(folders)}
    if outputs in _IMAGENET and all(_SYNSET.fullmatch(name) for name in folders):
        table = {name: place for place, name in enumerate(_synsets(_IMAGENET[outputs]))}
        return _placed(folders, table, "ImageNet", outputs)
    raise UsageError(
        f"data imagefolder: {root} has {len(folders)} class folders and the network {outputs} outputs, so which class "
        f"is which output is not known; {_ADVICE}"
    )


def _placed(folders: Sequence[str], table: dict[str, int], source: str, outputs: int | None) -> dict[str, int]:
    missing = [name for name in folders if name not in table]
    if missing:
        raise UsageError(f"data imagefolder: folder {missing[0]!r} is not among the classes of {source}; {_ADVICE}")
    places = {name: table[name] for name in folders}
    last = max(places, key=lambda name: places[name])
    if outputs is not None and places[last] >= outputs:
        raise UsageError(
            f"{source}: class {last!r} is in line {places[last] + 1}, the network has {outputs} outputs; {_ADVICE}"
        )
    return places


def _lines(file: Path) -> dict[str, int]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"--classes: cannot read {file}: {error}; expected a text with one class a line") from error
    table: dict[str, int] = {}
    for place, line in enumerate(lines):
        for name in dict.fromkeys((line.strip(), *line.split()[:1])):
            table.setdefault(name, place)
    return table


def _synsets(classes: str) -> list[str]:
    try:
        from timm.data import ImageNetInfo  # pyright: ignore[reportPrivateImportUsage]
    except ImportError as error:
        raise MissingExtraError("timm", "timm", "the order of ImageNet's classes") from error
    names: list[str] = ImageNetInfo(classes).label_names()
    return names
