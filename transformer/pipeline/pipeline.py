"""The runner: passes in order, checked before and after, recorded, and not repeated where nothing changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from ..contracts.context import Context
from ..contracts.pass_ import Pass, PassResult
from ..contracts.records import PassRecord
from ..contracts.store import RunStore
from ..errors import UnverifiedError, UsageError, nearest
from .default import verb_of
from .fingerprint import base, digest, fingerprint, options
from .identity import check_identity
from .preflight import preflight
from .verify_graph import verify

IN_MEMORY = "graph"
"""The one artifact that is not a record of the run: the captured network, in the context."""

Listener = Callable[[str, Context], None]


class Pipeline:
    """Passes that run in order on one context.

    1. Before the first of them: everything that one ``requires`` is there, or another makes it first; a missing
       artifact is an error that names the pass to run.
    2. A durable pass whose fingerprint (options, inputs, base) is that of its last finished run is skipped.
    3. After a pass: a returned graph is verified, and everything it ``ensures`` is there.
    4. Its options, seconds, notes and fingerprint are recorded before the next pass starts.
    """

    def __init__(self, passes: Sequence[Pass]) -> None:
        """Take the passes in the order in which they run.

        Raises:
            UsageError: two passes with one name, or one that requires what only a later pass makes.
        """
        self.passes = tuple(passes)
        names = [stage.name for stage in self.passes]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"pass {name!r} is in the pipeline {names.count(name)} times; once is enough")
        self._check_order()

    def run(self, context: Context, only: Collection[str] | None = None, listener: Listener | None = None) -> Context:
        """Run the passes, or those of them that are named in ``only``; return the context with the graph.

        The run's store is bound to the teacher, data and seed of the context; its scratch files are deleted at the end.

        ``listener(name, context)`` is called after each pass that ran or was up to date. A pass that ends
        unverified does not stop the passes after it; its error is raised at the end.

        Raises:
            UsageError: a requirement is missing or out of date; the message names the pass that makes it. Or the run
                was made with another teacher, data or seed.
        """
        for name in only or ():
            if name not in self.names:
                raise UsageError(f"no pass {name!r} in the pipeline{nearest(name, self.names)}")
        chosen = [stage for stage in self.passes if only is None or stage.name in only or not stage.durable]
        check_identity(context)
        prints = self.fingerprints(context)
        self._check_requires(chosen, context, prints)
        unverified: UnverifiedError | None = None
        for stage in chosen:
            if stage.durable and not self.finished(stage, context, prints):
                preflight(context, chosen)
            try:
                context = self._step(stage, context, prints)
            except UnverifiedError as error:
                if not _made(stage, context):
                    raise
                unverified = unverified or error
            if listener is not None:
                listener(stage.name, context)
        context.store.clear_scratch()
        if unverified is not None:
            raise unverified
        return context

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the passes in order."""
        return tuple(stage.name for stage in self.passes)

    def fingerprints(self, context: Context) -> dict[str, str]:
        """Return the fingerprint that each pass has with this context, by name."""
        ground = base(context)
        made: dict[str, str] = {}
        prints: dict[str, str] = {}
        for stage in self.passes:
            inputs = {kind: made.get(kind) or _given(context.store, kind) for kind in (*stage.requires, *stage.uses)}
            if IN_MEMORY in made:  # everything after it builds on the graph
                inputs[IN_MEMORY] = made[IN_MEMORY]
            prints[stage.name] = fingerprint(stage, inputs, ground)
            made.update(dict.fromkeys(stage.ensures, prints[stage.name]))
        return prints

    def finished(self, stage: Pass, context: Context, prints: dict[str, str] | None = None) -> bool:
        """Return whether the pass need not run again: it finished on the same options and inputs."""
        record = context.store.get(PassRecord, stage.name)
        expected = (prints or self.fingerprints(context))[stage.name]
        return stage.durable and record is not None and record.fingerprint == expected and not record.unverified

    def _step(self, stage: Pass, context: Context, prints: dict[str, str]) -> Context:
        self._check_requires([stage], context, prints)  # a pass before it may have taken something away
        if self.finished(stage, context, prints) and not _missing(stage.ensures, context):
            context.store.event("pass_skipped", name=stage.name)
            context.progress.log(f"{stage.name}: up to date")
            return context
        # From here on the old result may be half replaced: it no longer counts as finished.
        context.store.delete(PassRecord, stage.name)
        context.store.event("pass_started", name=stage.name)
        start = time.perf_counter()
        record = PassRecord(fingerprint=prints[stage.name], options=options(stage), seconds=0.0)
        try:
            result = stage.run(context)
        except UnverifiedError as error:
            # What it made serves the passes after it, but the same command again does it again.
            _finish(record, stage, context, time.perf_counter() - start, unverified=str(error))
            raise
        context = _adopt(stage, context, result)
        _finish(record, stage, context, time.perf_counter() - start, notes=result.notes)
        return context

    def _check_requires(self, chosen: Sequence[Pass], context: Context, prints: dict[str, str]) -> None:
        """Check that what the chosen passes require, and none of them makes, is there and up to date."""
        for stage, kind in [(user, kind) for user in chosen for kind in user.requires]:
            maker = self._maker(stage, kind)
            if maker in chosen:
                continue
            if _missing((kind,), context):
                hint = _how(maker.name, context) if maker else "no pass of this pipeline makes it"
                raise UsageError(f"{stage.name} needs {kind}, which this run does not have yet; {hint}")
            if maker is not None and not self._usable(maker, context, prints):
                raise UsageError(
                    f"{stage.name} needs {kind}, which is unfinished or made with other options; "
                    f"{_how(maker.name, context)}"
                )

    def _usable(self, stage: Pass, context: Context, prints: dict[str, str]) -> bool:
        record = context.store.get(PassRecord, stage.name)
        return record is not None and record.fingerprint == prints[stage.name]

    def _maker(self, stage: Pass, kind: str) -> Pass | None:
        """Return the last pass before ``stage`` that ensures ``kind``."""
        before = self.passes[: self.passes.index(stage)]
        return next((other for other in reversed(before) if kind in other.ensures), None)

    def _check_order(self) -> None:
        for place, stage in enumerate(self.passes):
            made = {kind for other in self.passes[:place] for kind in other.ensures}
            for kind in stage.requires:
                later = [other.name for other in self.passes[place + 1 :] if kind in other.ensures]
                if kind not in made and later:
                    raise UsageError(f"{stage.name} needs {kind}, which {later[0]} makes; put {later[0]} before it")


def _adopt(stage: Pass, context: Context, result: PassResult) -> Context:
    """Take over the pass's graph, if any, and check what it promised."""
    if result.graph is not None:
        verify(result.graph)
        context = replace(context, graph=result.graph)
    missing = _missing(stage.ensures, context)
    if missing:
        raise RuntimeError(f"pass {stage.name} ended without making {', '.join(missing)}, which it promises")
    return context


def _made(stage: Pass, context: Context) -> bool:
    """Return whether the pass has put something of what it ensures since it started last."""
    what = context.store.events()
    started = max(place for place, event in enumerate(what) if event == ("pass_started", {"name": stage.name}))
    return any(name == "put" and put.get("kind") in stage.ensures for name, put in what[started:])


def _how(name: str, context: Context) -> str:
    return f"run pass {name} first: hant-opt {verb_of(name)} {context.store.root}"


def _finish(record: PassRecord, stage: Pass, context: Context, seconds: float, **facts: Any) -> None:
    record = record.model_copy(update={"seconds": seconds, **facts})
    context.store.put(stage.name, record)
    context.store.event("pass_finished", name=stage.name, seconds=seconds)
    for note in record.notes:
        context.progress.log(f"{stage.name}: {note}")


def _missing(kinds: Sequence[str], context: Context) -> list[str]:
    def there(kind: str) -> bool:
        return context.graph is not None if kind == IN_MEMORY else context.store.count(kind) > 0

    return [kind for kind in kinds if not there(kind)]


def _given(store: RunStore, kind: str) -> str:
    """Return the fingerprint of an artifact that no pass of the pipeline makes: its content."""
    return "" if kind == IN_MEMORY else digest(store.payloads(kind))
