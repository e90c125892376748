"""The contract of a pass: options with their types, what it requires and ensures, how much work it expects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from ..errors import nearest
from ..plugins import load_plugin, registered
from .record import Scope, scope_of

if TYPE_CHECKING:
    from ..ir.graph import Graph
    from .context import Context


IN_MEMORY = "graph"
"""The one artifact that is not a record of the run: the captured network, in the context."""


@dataclass(frozen=True)
class Work:
    """What a pass expects to do if it begins from nothing."""

    what: str = ""
    """In words: ``78 candidates x 220 steps of 16 images``; empty where it is not worth a line."""
    macs: float = 0.0
    """Multiply-accumulates on the training device; a step of training counts three times its forward."""
    seconds: float = 0.0
    """Time that is no computing: latencies are taken by the clock."""
    bytes: int = 0
    """Of the files that it leaves in the run."""


Count = Annotated[int, Field(ge=1)]
"""Type of an option that is a number of things."""
Amount = Annotated[int, Field(ge=0)]
"""Type of an option that is a number of things, or none."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Type of an option such as a rate or a time."""
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Type of an option that scales something, or turns it off."""
Share = Annotated[float, Field(ge=0, le=1)]
"""Type of an option that is a share of a whole."""
Decay = Annotated[float, Field(ge=0, lt=1)]
"""Type of an option that says how much of the old is kept a step."""


def one_of(known: Iterable[str]) -> AfterValidator:
    """Return a check for ``Annotated``: the option is one of the ``known`` names."""
    names = tuple(known)

    def check(value: str) -> str:
        if value not in names:
            raise PydanticCustomError("one_of", "{reason}", {"reason": f"no such value{nearest(value, names)}"})
        return value

    return AfterValidator(check)


@dataclass(frozen=True)
class PassResult:
    """What a pass leaves behind besides its records in the run store."""

    graph: Graph | None = None
    """The new graph, where the pass made one."""
    notes: tuple[str, ...] = ()
    """Short facts for the log, each one line."""


def setting(default: Any, *, decides: bool = True) -> Any:
    """Return the field of a pass's option that says whether it ``decides`` the result.

    One that cannot change what the pass makes (how many work at a time, how often is saved) is no part of what a
    finished pass is known by: another value makes nothing out of date.
    """
    return field(default=default, metadata={"decides": decides})


@dataclass(frozen=True)
class Pass(ABC):
    """One stage. Results are written to the context's run store unit by unit.

    The runner checks ``requires`` before and ``ensures`` after (artifact names, see ``records.py``), records
    options and seconds, and skips a pass whose options and inputs did not change since it finished.
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ()
    """Artifacts that it takes up where they are there; it runs again when they change."""
    ensures: ClassVar[tuple[str, ...]] = ()
    durable: ClassVar[bool] = True
    """False for passes that run each time: what they make is in memory (capture ensures ``graph``), or in a file."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in vars(cls):
            _KINDS[cls.name] = cls

    def check(self, context: Context) -> None:  # noqa: B027
        """Refuse options that cannot work, before the first stage begins.

        What a value may be at all, the type of its field says (``Count``, ``Literal``): it is refused when the pass is
        built. Here belongs what takes the data, the target or another option to know.

        Raises:
            UsageError: which option, and what was expected.
        """

    def work(self, context: Context) -> Work:
        """Return what the pass expects to do, from the graph and the operation records; nothing is measured yet."""
        return Work()

    @abstractmethod
    def run(self, context: Context) -> PassResult:
        """Do the stage's work, or the part of it that is not yet in the store."""

    def lost(self, context: Context) -> str:
        """Return in words what of that which the finished pass made is not there any more, or not as it was made.

        Empty where all is well. It is looked at before the pass is skipped as up to date, so it must not take long;
        where it says something, the pass runs again and makes what is missing.
        """
        return ""


_KINDS: dict[str, type[Pass]] = {}
"""By name; a pass that is in no package is known by its class alone."""


def pass_scope(name: str) -> Scope:
    """Return whose the named pass's being finished is: a student's own where it makes anything of a student.

    All others serve every student on the same target, whose operations and pool they were done for.
    """
    kind = load_plugin("hant.passes", name) if name in registered("hant.passes") else _KINDS.get(name)
    made = () if kind is None else kind.ensures
    shared = [Scope.STUDENT not in scope_of(artifact) for artifact in made if artifact != IN_MEMORY]
    return Scope.TARGET if made and all(shared) else Scope.STUDENT
