"""The part of a kit's script that runs the groups of networks and keeps their times.

Needs Python and numpy only: it runs on the device, where there is no hant. ``result.json`` is written anew after every
group, so the script may be killed at any time: the same command goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESULT = "result.json"
MANIFEST = "manifest.json"
_INTERRUPTED = 130


class KitError(Exception):
    """Something that the user can mend; its text is one line."""


class Kit:
    """An unpacked kit, or the zip file itself. Results lie beside what it holds."""

    def __init__(self, path: Path) -> None:
        """Open a folder or a zip file.

        Raises:
            KitError: it is no kit.
        """
        hint = f"give the folder or the zip file that holds {MANIFEST}"
        self._zip: zipfile.ZipFile | None = None
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path) if zipfile.is_zipfile(path) else None
            self.manifest: dict[str, Any] = json.loads(self.read(MANIFEST))
        except (KitError, OSError, zipfile.BadZipFile, ValueError, RecursionError) as error:
            raise KitError(f"{path} is no kit: {error}; {hint}") from error
        if not isinstance(self.manifest, dict) or not {"settings", "target", "groups"} <= set(self.manifest):
            raise KitError(f"{path} is no kit: {MANIFEST} lacks settings, target or groups; {hint}")
        self.result = (path.parent if self._zip is not None else path) / RESULT

    def read(self, name: str) -> bytes:
        """Return the content of a file of the kit.

        Raises:
            KitError: it is missing or damaged.
        """
        try:
            return self._zip.read(name) if self._zip is not None else (self._path / name).read_bytes()
        # KeyError: no such entry; NotImplementedError and RuntimeError: another compression, or encrypted
        except (OSError, KeyError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise KitError(f"{name} of kit {self._path} is missing or damaged: {reason}") from error


def digest(manifest: Any) -> str:
    """Return a short hash of a manifest as plain data."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


def run(device_class: Callable[[Any], Any], take_rounds: Callable[..., Any], arguments: list[str]) -> int:
    """Measure what is not yet measured; return the exit code: 0 done, 2 cannot, 130 interrupted.

    ``arguments``: the kit's folder or zip file; none for the folder of the script.
    """
    try:
        kit = Kit(Path(arguments[0]) if arguments else Path(sys.argv[0]).resolve().parent)
        device = device_class(kit.manifest["settings"])
        problem = device.problem()
        if problem is not None:
            raise KitError(problem)
        _measure(kit, device, take_rounds)
    except KitError as error:
        sys.stderr.write(f"measure.py: error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("measure.py: interrupted; what was measured is kept, the same command goes on\n")
        return _INTERRUPTED
    return 0


def _measure(kit: Kit, device: Any, take_rounds: Callable[..., Any]) -> None:
    """Run every group that the result lacks and write the result after each."""
    groups, result = kit.manifest["groups"], _begun(kit, device.facts())
    done, spent = result["groups"], []
    teacher: dict[str, Callable[[], object]] = {}
    todo = [group for group in groups if group["name"] not in done]
    _say(f"{len(groups)} groups, {len(done)} measured before; device: {result['device'].get('device', 'unknown')}")
    for place, group in enumerate(todo):
        start = time.perf_counter()
        done[group["name"]] = _one(kit, device, take_rounds, group, teacher)
        _write(kit.result, result)
        spent.append(time.perf_counter() - start)
        left = sum(spent) / len(spent) * (len(todo) - place - 1) / 60
        number = len(groups) - len(todo) + place + 1
        _say(f"[{number}/{len(groups)}] {group['what']}: {spent[-1]:.1f} s; about {left:.1f} min left")
    if not todo:
        _write(kit.result, result)
    _say(f"all is measured; bring back {kit.result} and run: hant-opt profile MODEL_OR_RUN --import {RESULT}")


def _one(
    kit: Kit,
    device: Any,
    take_rounds: Callable[..., Any],
    group: Mapping[str, Any],
    teacher: dict[str, Callable[[], object]],
) -> dict[str, Any]:
    """Return the samples (ms) of a group's networks, none for those that cannot be run here, with the reason."""
    start, calls, errors = time.perf_counter(), {}, {}
    for index, network in enumerate(group["networks"]):
        content = kit.read(network["file"])
        try:
            if index == 0 and network["file"] in teacher:  # the whole teacher, opened once
                calls[index] = teacher[network["file"]]
            else:
                call = device.open(content, *(_input(one) for one in network["inputs"]))
                call()  # some networks open and fail only when they run
                calls[index] = call
        except Exception as error:  # runtimes raise what they like
            errors[index] = " ".join(str(error).split()) or type(error).__name__
    if 0 in errors:
        raise KitError(f"the whole network cannot be run here: {errors[0]}")
    teacher[group["networks"][0]["file"]] = calls[0]
    protocol = dict(kit.manifest["target"]["protocol"])
    protocol["max_rounds"] = min(protocol["max_rounds"], group["max_rounds"])
    try:
        rounds = take_rounds(list(calls.values()), SimpleNamespace(**protocol), clock=device.clock())
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise KitError(
            f"a network of {group['what']} failed while it was timed: {reason}; "
            "what was measured before is kept, the same command goes on"
        ) from error
    samples = dict(zip(calls, rounds.samples, strict=True))
    return {
        "samples": [[float(f"{ms:.7g}") for ms in samples.get(i, ())] for i in range(len(group["networks"]))],
        "converged": list(rounds.converged),
        "errors": {str(index): reason for index, reason in errors.items()},
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.perf_counter() - start, 3),
    }


def _input(wanted: Mapping[str, Any]) -> NDArray[np.generic]:
    """Return noise of the shape; zeros where the kind of number has none."""
    kind, shape = np.dtype(wanted["dtype"]), tuple(wanted["shape"])
    if kind.kind != "f":
        return np.zeros(shape, kind)
    return np.random.default_rng(0).standard_normal(shape, np.float32).astype(kind)


def _begun(kit: Kit, facts: dict[str, str]) -> dict[str, Any]:
    """Return the result so far.

    Raises:
        KitError: it is damaged, of another kit, or of another device.
    """
    identity = digest(kit.manifest)
    if not kit.result.exists():
        return {"version": 1, "digest": identity, "kit": kit.manifest, "device": facts, "groups": {}}
    try:
        result: dict[str, Any] = json.loads(kit.result.read_text(encoding="utf-8"))
        theirs, known = result["device"], result["groups"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise KitError(f"cannot read {kit.result}: {error}; delete it to begin again") from error
    if result.get("digest") != identity or not isinstance(known, dict) or not isinstance(theirs, dict):
        raise KitError(f"{kit.result} is of another kit; move it away to begin this one")
    for name in sorted({*theirs, *facts}):
        if theirs.get(name) != facts.get(name):
            raise KitError(
                f"{kit.result} was begun elsewhere: {name} {theirs.get(name)!r} is not {facts.get(name)!r}; "
                "go on there, or move it away to begin here"
            )
    return result


def _write(path: Path, result: Mapping[str, Any]) -> None:
    """Write the result through a temporary file beside it, so that it is whole at any moment."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as handle:
            json.dump(result, handle)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        raise KitError(f"cannot write {path}: {error.strerror}; what was written before is kept") from error


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
