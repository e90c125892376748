"""The runner: passes in order, checked before and after, recorded, and not repeated where nothing changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..contracts.context import Context
from ..contracts.pass_ import IN_MEMORY, Pass, PassResult
from ..contracts.store import Store
from ..errors import HantError, LostError, UnverifiedError, UsageError, nearest
from ..runs.fingerprint import base, changed, digest, fingerprint, options, recognised
from ..runs.identity import check_identity
from ..runs.processes import processes
from ..runs.records import PassRecord
from .default import verb_of
from .preflight import preflight
from .verify_graph import verify

Listener = Callable[[str, Context], None]


class Pipeline:
    """Passes that run in order on one context.

    1. Before the first of them: everything that one ``requires`` is there, or another makes it first; a missing
       artifact is an error that names the pass to run.
    2. A durable pass whose fingerprint (options that decide, inputs, base) is that of its last finished run is skipped,
       unless something that it made is lost.
    3. After a pass: a returned graph is verified, and everything it ``ensures`` is there.
    4. Its options, seconds, notes and fingerprint are recorded before the next pass starts.
    5. A pass that fails before it replaced anything leaves its last result finished. A file of the run that turns out
       to be missing is made again by its pass, and by that alone.
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
        prints = self.check(context, only)
        chosen = self._chosen(only)
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

    def check(self, context: Context, only: Collection[str] | None = None, flags: str = "") -> dict[str, str]:
        """Check before anything is done that the passes, or those named in ``only``, can run; return all fingerprints.

        ``flags`` are those that this command changes the run's configuration with, such as `` --budget 0.3``: a message
        that names the command to run first repeats them.

        Raises:
            UsageError: an unknown pass, another teacher, data or seed, or a requirement that is missing or out of date.
        """
        for name in only or ():
            if name not in self.names:
                raise UsageError(f"no pass {name!r} in the pipeline{nearest(name, self.names)}")
        check_identity(context)
        prints = self.fingerprints(context)
        self._check_requires(self._chosen(only), context, prints, flags)
        return prints

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the passes in order."""
        return tuple(stage.name for stage in self.passes)

    def results(self, store: Store) -> dict[str, str]:
        """Return the fingerprints of what the run holds, by name of the durable pass that made it."""
        records = store.all(PassRecord)
        return {stage.name: records[stage.name].fingerprint for stage in self.passes if self._counts(stage, records)}

    def _chosen(self, only: Collection[str] | None) -> list[Pass]:
        return [stage for stage in self.passes if only is None or stage.name in only or not stage.durable]

    @staticmethod
    def _counts(stage: Pass, records: Mapping[str, PassRecord]) -> bool:
        return stage.durable and stage.name in records

    def fingerprints(self, context: Context) -> dict[str, str]:
        """Return the fingerprint that each pass has with this context, by name.

        Where the run's record of it is of the same options, inputs and base, it is the record's own.
        """
        ground, records = base(context), context.store.all(PassRecord)
        made: dict[str, str] = {}
        prints: dict[str, str] = {}
        for stage in self.passes:
            inputs = {kind: made.get(kind) or _given(context.store, kind) for kind in (*stage.requires, *stage.uses)}
            if IN_MEMORY in made:  # everything after it builds on the graph
                inputs[IN_MEMORY] = made[IN_MEMORY]
            record = records.get(stage.name)
            known = record is not None and recognised(record, stage, inputs, ground)
            prints[stage.name] = record.fingerprint if record and known else fingerprint(stage, inputs, ground)
            made.update(dict.fromkeys(stage.ensures, prints[stage.name]))
        return prints

    def finished(self, stage: Pass, context: Context, prints: dict[str, str] | None = None) -> bool:
        """Return whether the pass need not run again: it finished on the same options and inputs."""
        record = context.store.get(PassRecord, stage.name)
        expected = (prints or self.fingerprints(context))[stage.name]
        return stage.durable and record is not None and record.fingerprint == expected and not record.unverified

    def _step(self, stage: Pass, context: Context, prints: dict[str, str]) -> Context:
        if self._at_hand(stage, context, prints):
            return context
        self._check_requires([stage], context, prints)  # a pass before it may have taken something away
        if self.finished(stage, context, prints) and not _missing(stage.ensures, context):
            lost = stage.lost(context)
            if not lost:
                context.store.event("pass_skipped", name=stage.name)
                context.progress.log(f"{stage.name}: up to date")
                return context
            context.progress.log(f"{stage.name}: {lost}; made again")
        return self._perform(stage, context, prints)

    @staticmethod
    def _at_hand(stage: Pass, context: Context, prints: dict[str, str]) -> bool:
        """Return whether all that the pass makes is the graph, and the context has the one that it would make."""
        if stage.ensures != (IN_MEMORY,) or context.graph is None:
            return False
        record = context.store.get(PassRecord, stage.name)
        return record is not None and record.fingerprint == prints[stage.name]

    def _perform(self, stage: Pass, context: Context, prints: dict[str, str]) -> Context:
        """Run the pass and record it; where it fails before it replaced anything, its last result stays finished."""
        last, before = context.store.get(PassRecord, stage.name), _content(stage, context)
        # From here on the old result may be half replaced: it no longer counts as finished.
        context.store.delete(PassRecord, stage.name)
        context.store.event("pass_started", name=stage.name)
        start = time.perf_counter()
        if last is not None and last.fingerprint == prints[stage.name] and not last.unverified:
            start -= last.seconds  # only what is lost is made again
        record = PassRecord(fingerprint=prints[stage.name], options=options(stage), seconds=0.0)
        try:
            result = self._run(stage, context, prints)
            context = _adopt(stage, context, result)
        except UnverifiedError as error:
            # What it made serves the passes after it, but the same command again does it again.
            _finish(record, stage, context, time.perf_counter() - start, unverified=str(error))
            raise
        except HantError:
            if last is not None and _content(stage, context) == before:
                context.store.put(stage.name, last)
            raise
        _finish(record, stage, context, time.perf_counter() - start, notes=result.notes)
        return context

    def _run(self, stage: Pass, context: Context, prints: dict[str, str]) -> PassResult:
        """Run the pass; where it finds a file of the run lost, have that made again and begin anew."""
        seen: set[str] = set()
        while True:
            try:
                return stage.run(context)
            except LostError as error:
                maker = self._maker(stage, error.kind)
                if maker is None or str(error) in seen or processes().count > 1:
                    raise
                seen.add(str(error))
                context.progress.log(f"{stage.name}: {error}; {maker.name} makes it again")
                self._check_requires([maker], context, prints)
                self._perform(maker, context, prints)

    def _check_requires(
        self, chosen: Sequence[Pass], context: Context, prints: dict[str, str], flags: str = ""
    ) -> None:
        """Check that what the chosen passes require, and none of them makes, is there and up to date."""
        for stage, kind in [(user, kind) for user in chosen for kind in user.requires]:
            maker = self._maker(stage, kind)
            if maker in chosen:
                continue
            if _missing((kind,), context):
                hint = _how(maker.name, context, flags) if maker else "no pass of this pipeline makes it"
                raise UsageError(f"{stage.name} needs {kind}, which this run does not have yet; {hint}")
            if maker is not None and not self._usable(maker, context, prints):
                first = self._first_outdated(maker, context, prints)
                record = context.store.get(PassRecord, first.name)
                what = ", ".join(changed(record, first)) if record is not None else ""
                raise UsageError(
                    f"{stage.name} needs {kind}, which is unfinished or made with other options; "
                    f"{_how(first.name, context, flags)}{what and f' ({what})'}"
                )

    def _first_outdated(self, stage: Pass, context: Context, prints: dict[str, str]) -> Pass:
        """Return ``stage``, or what has to run before it because it is out of date itself."""
        for kind in stage.requires:
            maker = self._maker(stage, kind)
            if maker is not None and maker.durable and not self._usable(maker, context, prints):
                return self._first_outdated(maker, context, prints)
        return stage

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
        check_identity(context)
    missing = _missing(stage.ensures, context)
    if missing:
        raise RuntimeError(f"pass {stage.name} ended without making {', '.join(missing)}, which it promises")
    return context


def _made(stage: Pass, context: Context) -> bool:
    """Return whether the pass has put something of what it ensures since it started last."""
    what = context.store.events()
    started = max(place for place, event in enumerate(what) if event == ("pass_started", {"name": stage.name}))
    return any(name == "put" and put.get("kind") in stage.ensures for name, put in what[started:])


def _how(name: str, context: Context, flags: str) -> str:
    return f"run pass {name} first: hant-opt {verb_of(name)} {context.store.address}{flags}"


def _content(stage: Pass, context: Context) -> dict[str, dict[str, str]]:
    """Return what the run holds of what the pass makes."""
    return {kind: context.store.payloads(kind) for kind in stage.ensures if kind != IN_MEMORY}


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


def _given(store: Store, kind: str) -> str:
    """Return the fingerprint of an artifact that no pass of the pipeline makes: its content."""
    return "" if kind == IN_MEMORY else digest(store.payloads(kind))
