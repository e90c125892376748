"""Reading the text form of a network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from ..errors import LoadError
from .allowed import METHODS, functions
from .serialize import assemble, own_path
from .text import KEYWORDS, Line, Named, NetworkText, Value

_TOKEN = re.compile(
    r"\s*(?:(?P<value>%[A-Za-z_]\w*)|(?P<string>\"(?:[^\"\\]|\\.)*\")|(?P<dots>\.\.\.)"
    r"|(?P<number>[-+]?(?:\d+\.\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?|\d+e[-+]?\d+|\d+)(?![\w.]))"
    r"|(?P<word>[A-Za-z_][\w.]*)|(?P<mark>[()\[\]{},:=]))",
    re.ASCII,
)
_HEAD = re.compile(r"network ([A-Za-z_]\w*)\Z", re.ASCII)
_INPUT = re.compile(r"input %([A-Za-z_]\w*)(?: : (.+))?\Z", re.ASCII)
_CALL = re.compile(r"%([A-Za-z_]\w*) = (block|module|function|method|attribute) ([\w.@\-]+)", re.ASCII)
_DEEPEST = 20
_CONSTANTS = {"None": None, "True": True, "False": False}
_FLOATS = {"float.inf": float("inf"), "float.minus_inf": float("-inf"), "float.nan": float("nan")}


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
        reader = _Reader(line.removeprefix("return "))
        value = reader.value()
        reader.end()
        return Line("", "return", args=(value,))
    call = _CALL.match(line)
    if call is None:
        raise ValueError("expected 'input %x', '%x = KIND TARGET(...)' or 'return VALUE'")
    name, keyword, target = call.groups()
    reader = _Reader(line[call.end() :])
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


class _Reader:
    """Reads arguments from one line."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def peek(self) -> tuple[str, str]:
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            if self.text[self.at :].strip():
                raise ValueError(f"cannot read {self.text[self.at : self.at + 12]!r}")
            return "end", ""
        assert match.lastgroup is not None
        return match.lastgroup, match[match.lastgroup]

    def next(self) -> tuple[str, str]:
        token = self.peek()
        match = _TOKEN.match(self.text, self.at)
        self.at = match.end() if match is not None else len(self.text)
        return token

    def expect(self, mark: str) -> None:
        kind, found = self.next()
        if kind != "mark" or found != mark:
            raise ValueError(f"expected {mark!r}, got {found or 'the end'!r}")

    def accept(self, mark: str) -> bool:
        if self.peek() == ("mark", mark):
            self.next()
            return True
        return False

    def end(self) -> None:
        if self.peek()[0] != "end":
            raise ValueError(f"expected the end, got {self.peek()[1]!r}")

    def note(self) -> str:
        """Return what follows the colon, or an empty string at the end."""
        rest = self.text[self.at :]
        if not rest.strip():
            return ""
        if not rest.startswith(" : ") or not rest[3:].strip():
            raise ValueError(f"expected ' : NOTE' or the end, got {rest[:12]!r}")
        return rest[3:].strip()

    def arguments(self) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]:
        self.expect("(")
        args, kwargs = list[Any](), dict[str, Any]()
        while not self.accept(")"):
            kind, word = self.peek()
            before = self.at
            if kind == "word" and self.next() and self.accept("="):
                if word in kwargs or not word.isidentifier():
                    raise ValueError(f"argument {word!r} is given twice or has no good name")
                kwargs[word] = self.value()
            else:
                self.at = before
                if kwargs:
                    raise ValueError("a positional argument follows a named one")
                args.append(self.value())
            if not self.accept(","):
                self.expect(")")
                break
        return tuple(args), tuple(kwargs.items())

    def value(self) -> Any:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ValueError("nested too deep")
        made = self._value(*self.next())
        self.depth -= 1
        return made

    def _value(self, kind: str, text: str) -> Any:
        if kind == "value":
            return Value(text[1:])
        if kind == "string":
            return json.loads(text)
        if kind == "number":
            return int(text) if re.fullmatch(r"[-+]?\d{1,18}", text) else float(text)
        if kind == "dots":
            return ...
        if kind == "word":
            return self._word(text)
        if (kind, text) == ("mark", "("):
            items, comma = self._items(")")
            return items[0] if len(items) == 1 and not comma else tuple(items)
        if (kind, text) == ("mark", "["):
            return self._items("]")[0]
        if (kind, text) == ("mark", "{"):
            return self._mapping()
        raise ValueError(f"expected a value, got {text or 'the end'!r}")

    def _word(self, word: str) -> Any:
        if word in _CONSTANTS:
            return _CONSTANTS[word]
        if word in _FLOATS:
            return _FLOATS[word]
        if word == "slice":
            self.expect("(")
            parts, _ = self._items(")")
            if len(parts) != 3:
                raise ValueError("a slice has three parts")
            return slice(*parts)
        named(word)
        return Named(word)

    def _items(self, close: str) -> tuple[list[Any], bool]:
        """Return the items up to ``close``, and whether a comma ends them."""
        items, comma = list[Any](), False
        while not self.accept(close):
            items.append(self.value())
            comma = self.accept(",")
            if not comma:
                self.expect(close)
                break
        return items, comma

    def _mapping(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        while not self.accept("}"):
            kind, key = self.next()
            if kind != "string":
                raise ValueError("the keys of a mapping are strings")
            self.expect(":")
            made[json.loads(key)] = self.value()
            if not self.accept(","):
                self.expect("}")
                break
        return made


def named(word: str) -> Any:
    """Return the constant of torch that a word such as ``torch.float32`` or ``device.cpu`` stands for."""
    owner, _, name = word.partition(".")
    if owner == "device" and name in ("cpu", "cuda", "mps", "xpu", "meta"):
        return torch.device(name)
    found = getattr(torch, name, None) if owner == "torch" and name.isidentifier() else None
    if not isinstance(found, torch.dtype | torch.memory_format | torch.layout):
        raise ValueError(f"unknown word {word!r}")
    return found


def bind(text: NetworkText, root: nn.Module, targets: dict[str, str] | None = None) -> fx.GraphModule:
    """Return a module that computes what the text says, on the submodules and tensors of ``root``.

    Args:
        text: the network.
        root: holds what the lines call.
        targets: block name -> path in ``root``, where they differ.

    Raises:
        LoadError: a function or method that is not on the lists, or a path that ``root`` does not have.
    """
    graph, nodes = fx.Graph(), dict[str, fx.Node]()
    operations = {keyword: op for op, keyword in KEYWORDS.items()} | {"block": "call_module"}

    def real(value: Any) -> Any:
        if isinstance(value, Value):
            return nodes[value.name]
        if isinstance(value, Named):
            return named(value.name)
        if isinstance(value, tuple | list):
            return type(value)(real(item) for item in value)
        if isinstance(value, dict):
            return {key: real(item) for key, item in value.items()}
        if isinstance(value, slice):
            return slice(real(value.start), real(value.stop), real(value.step))
        return value

    for line in text.lines:
        if line.keyword == "input":
            nodes[line.name] = graph.placeholder(line.name)
        elif line.keyword == "return":
            graph.output(real(line.args[0]))
        else:
            target = _target(line, root, targets or {})
            kwargs = {key: real(value) for key, value in line.kwargs}
            nodes[line.name] = graph.create_node(
                operations[line.keyword], target, real(line.args), kwargs, name=line.name
            )
    return assemble(root, graph, text.name)


def _target(line: Line, root: nn.Module, targets: dict[str, str]) -> Any:
    if line.keyword == "function":
        if line.target not in functions():
            raise LoadError(f"the network's text calls the function {line.target!r}, which is not on the allowed list")
        return functions()[line.target]
    if line.keyword == "method":
        if line.target not in METHODS:
            raise LoadError(f"the network's text calls the method {line.target!r}, which is not on the allowed list")
        return line.target
    path = targets.get(line.target, line.target) if line.keyword == "block" else line.target
    return own_path("get_attr" if line.keyword == "attribute" else "call_module", path, root)
