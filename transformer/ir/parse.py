"""Reading the text form of a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..errors import LoadError
from .argument_reader import ArgumentReader
from .text import Line, NetworkText, Value

_HEAD = re.compile(r"network ([A-Za-z_]\w*)\Z", re.ASCII)
_INPUT = re.compile(r"input %([A-Za-z_]\w*)(?: : (.+))?\Z", re.ASCII)
_CALL = re.compile(r"%([A-Za-z_]\w*) = (block|module|function|method|attribute) ([\w.@\-]+)", re.ASCII)


def parse_text(text: str) -> NetworkText:
    """Return the network that ``str`` printed; indentation, empty lines and ``#`` comments do not matter.

    Raises:
        LoadError: not such a text, with the number of the line.
    """
    name, lines = "", list[Line]()
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            if not name:
                name = _head(line)
            else:
                lines.append(_line(line))
        except (ValueError, RecursionError) as error:
            raise LoadError(f"line {number} of the network's text: {error}: {line[:60]!r}") from error
    _check(name, lines)
    return NetworkText(name, tuple(lines))


def _head(line: str) -> str:
    match = _HEAD.match(line)
    if match is None:
        raise ValueError("expected 'network NAME'")
    return match[1]


def _line(line: str) -> Line:
    if (entry := _INPUT.match(line)) is not None:
        return Line(entry[1], "input", note=entry[2] or "")
    if line.startswith("return "):
        reader = ArgumentReader(line.removeprefix("return "))
        value = reader.value()
        reader.end()
        return Line("", "return", args=(value,))
    call = _CALL.match(line)
    if call is None:
        raise ValueError("expected 'input %x', '%x = KIND TARGET(...)' or 'return VALUE'")
    name, keyword, target = call.groups()
    reader = ArgumentReader(line[call.end() :])
    args, kwargs = ((), ()) if keyword == "attribute" else reader.arguments()
    return Line(name, keyword, target, args, kwargs, reader.note())


def _check(name: str, lines: list[Line]) -> None:
    """Make sure that every value is made once, before it is read, and that the last line returns."""
    if not name or not lines or lines[-1].keyword != "return":
        raise LoadError("the network's text does not end with a return line")
    known: set[str] = set()
    for line in lines:
        for value in _values((line.args, dict(line.kwargs))):
            if value.name not in known:
                raise LoadError(f"the network's text reads %{value.name} before it is made")
        if line.name in known or (line.keyword == "return" and line is not lines[-1]):
            raise LoadError(f"the network's text makes %{line.name} twice")
        known.add(line.name)


def _values(value: Any) -> Iterator[Value]:
    if isinstance(value, Value):
        yield value
    items: Any = value if isinstance(value, tuple | list) else ()
    if isinstance(value, dict):
        items = value.values()
    elif isinstance(value, slice):
        items = (value.start, value.stop, value.step)
    for item in items:
        yield from _values(item)
