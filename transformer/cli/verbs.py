"""A verb of the command: its flags are made from the fields that declare them."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from ..errors import UsageError
from ..pipeline.config import Config, Flag, declared
from .options import Command


@dataclass(frozen=True)
class Taken:
    """A flag of one verb."""

    name: str
    """Of its field."""
    info: FieldInfo
    flag: Flag
    used: bool
    """Whether the verb itself uses it; else it is hidden."""
    kept: bool
    """Whether it is the configuration's, which a run keeps."""

    @property
    def spelling(self) -> str:
        """The flag as the user writes it."""
        return self.flag.spelling(self.name)

    def parameter(self) -> inspect.Parameter:
        """Return what the parser takes."""
        text = (self.info.description or "").replace("``", "")
        default = ... if self.info.is_required() else False if self.info.annotation is bool else None
        if not self.spelling.startswith("-"):
            made: Any = typer.Argument(default, metavar=self.spelling, help=text)
        else:
            made = typer.Option(
                default,
                self.spelling,
                *self.flag.also,
                count=self.flag.counted,
                metavar=self.flag.metavar or "|".join(_choices(self.info.annotation)) or None,
                help=text,
                hidden=not self.used,
                show_default=self.info.default if isinstance(self.info.default, str) else False,
                rich_help_panel=self.flag.panel,
            )
        kind = _typed(self.info.annotation)
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=made, annotation=kind)


@dataclass(frozen=True)
class Verb:
    """One command: what it is told, what of the configuration it uses, and the function that does it."""

    name: str
    help: str
    words: type[Command]
    run: Callable[[Any], int]
    """From the words to the exit code."""
    uses: tuple[str, ...] = ()
    """Passes that it runs, and what else it does (``Flag.used_by``)."""
    keeps: bool = False
    """Whether its run keeps the configuration: then the flags of other verbs are taken too, but hidden."""

    def __call__(self, **flags: Any) -> int:
        """Run the verb on what the parser found.

        Raises:
            UsageError: a flag that the verb cannot use.
        """
        given = {name: value for name, value in flags.items() if value not in (None, []) and value is not False}
        beside = [taken for taken in self.flags() if taken.name in given and not taken.used]
        for taken in beside:
            if not taken.kept:
                verbs = " or ".join(taken.flag.used_by)
                raise UsageError(f"{taken.spelling} goes with {verbs}, not {self.name}; leave it out")
        own = {name: value for name, value in given.items() if name in self.words.model_fields}
        unused = tuple(taken.spelling for taken in beside)
        return self.run(self.words(verb=self.name, given=given, unused=unused, **own))

    def flags(self) -> Iterator[Taken]:
        """Yield the flags that the parser takes."""
        for name, (info, flag) in declared(Config).items():
            used = not set(flag.used_by).isdisjoint(self.uses)
            if name not in self.words.model_fields and (self.keeps or used):
                yield Taken(name, info, flag, used, kept=True)
        for name, (info, flag) in declared(self.words).items():
            yield Taken(name, info, flag, not flag.used_by or self.name in flag.used_by, kept=False)

    def register(self, app: typer.Typer) -> None:
        """Add the verb to the command."""

        def command(**flags: Any) -> int:
            return self(**flags)

        parameters = [taken.parameter() for taken in self.flags()]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        app.command(self.name, help=self.help)(command)


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return what an annotation allows besides None."""
    several = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return tuple(kind for kind in several if kind is not type(None))


def _choices(annotation: Any) -> tuple[str, ...]:
    (kind,) = _members(annotation)
    return get_args(kind) if get_origin(kind) is Literal else ()


def _typed(annotation: Any) -> Any:
    """Return the type that the parser reads: tables are text for it, and the values are the model's to check."""
    (kind,) = _members(annotation)
    if kind is bool:
        return bool
    origin = get_origin(kind)
    plain = list[str] if origin is tuple else str if origin in (dict, Literal) else kind
    return plain | None
