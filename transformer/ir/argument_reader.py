"""Reading the arguments of one line of a network's text."""

from __future__ import annotations

import json
import re
from typing import Any

import torch

from .text import Named, Value

_TOKEN = re.compile(
    r"\s*(?:(?P<value>%[A-Za-z_]\w*)|(?P<string>\"(?:[^\"\\]|\\.)*\")|(?P<dots>\.\.\.)"
    r"|(?P<number>[-+]?(?:\d+\.\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?|\d+e[-+]?\d+|\d+)(?![\w.]))"
    r"|(?P<word>[A-Za-z_][\w.]*)|(?P<mark>[()\[\]{},:=]))",
    re.ASCII,
)
_DEEPEST = 20
_CONSTANTS = {"None": None, "True": True, "False": False}
_FLOATS = {"float.inf": float("inf"), "float.minus_inf": float("-inf"), "float.nan": float("nan")}


class ArgumentReader:
    """Reads arguments from one line."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def peek(self) -> tuple[str, str]:
        """Return kind and text of the next token; ``end`` at the end."""
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            if self.text[self.at :].strip():
                raise ValueError(f"cannot read {self.text[self.at : self.at + 12]!r}")
            return "end", ""
        assert match.lastgroup is not None
        return match.lastgroup, match[match.lastgroup]

    def next(self) -> tuple[str, str]:
        """Return the next token and go past it."""
        token = self.peek()
        match = _TOKEN.match(self.text, self.at)
        self.at = match.end() if match is not None else len(self.text)
        return token

    def expect(self, mark: str) -> None:
        """Go past ``mark``."""
        kind, found = self.next()
        if kind != "mark" or found != mark:
            raise ValueError(f"expected {mark!r}, got {found or 'the end'!r}")

    def accept(self, mark: str) -> bool:
        """Go past ``mark`` if it comes next, and return whether it did."""
        if self.peek() == ("mark", mark):
            self.next()
            return True
        return False

    def end(self) -> None:
        """Make sure that nothing is left."""
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
        """Read ``(a, b, key=c)``."""
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
        """Read one argument."""
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
