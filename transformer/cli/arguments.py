"""What the user typed, in the form that the parser takes."""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_VERB = "optimize"
_SWITCHES = ("-q", "--quiet", "--verbose", "--json")
_OWN = ("-h", "--help", "--version")


def normalise(arguments: Sequence[str], verbs: Sequence[str]) -> list[str]:
    """Return the arguments with the verb first and dashes in flags.

    1. ``--batch_size`` means ``--batch-size``; values are left alone.
    2. Without a verb, ``optimize`` is meant: ``hant-opt MODEL ...``, ``hant-opt --config FILE``.
    3. Switches such as ``-v`` may stand before the verb.
    """
    tidy = _dashes(arguments)
    head = 0
    while head < len(tidy) and (tidy[head] in _SWITCHES or _is_verbosity(tidy[head])):
        head += 1
    if head < len(tidy) and tidy[head] in verbs:
        return [tidy[head], *tidy[:head], *tidy[head + 1 :]]
    if not tidy or tidy[0] in _OWN:
        return tidy
    return [DEFAULT_VERB, *tidy]


def _dashes(arguments: Sequence[str]) -> list[str]:
    tidy: list[str] = []
    for place, argument in enumerate(arguments):
        if argument == "--":
            return [*tidy, *arguments[place:]]
        flag, equals, value = argument.partition("=")
        tidy.append(flag.replace("_", "-") + equals + value if flag.startswith("--") else argument)
    return tidy


def _is_verbosity(argument: str) -> bool:
    return len(argument) > 1 and argument[0] == "-" and set(argument[1:]) == {"v"}
