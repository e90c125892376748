"""Whose code may run: what a run's stored configuration names runs only if this user named it.

A run may come from elsewhere, and its configuration may name code: a factory for ``arch``, a function for ``data``.
When this user names such code (with flags, ``--config`` or from Python), the run is given a seal: a digest of what is
named and of the file that holds it, keyed by a secret in this user's own folder. Later commands on the run, or on a
copy of it, find the seal and run the code; without it they need ``--trust-run``. That flag and ``--trust-model`` are
never stored.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..contracts.progress import Progress
from ..contracts.store import Store
from ..data.sources import names_code
from ..errors import StorageError, UsageError
from .config import Config

SEAL = "run.seal"
_KEY_BYTES = 32
_LIBRARIES = ("timm:", "torchvision:", "genet:", "gpunet:", "space:")


def code_named(config: Config) -> dict[str, list[Any]]:
    """Return what the configuration names that would run: option -> its value, and a digest of the file it names."""
    code: dict[str, list[Any]] = {}
    arch = config.arch or ""
    if (arch and not arch.startswith(_LIBRARIES)) or not all(map(_plain, config.arch_kwargs.values())):
        code["arch"] = [arch, config.arch_kwargs, _content(arch)]
    if config.data and not config.data.startswith("<") and names_code(config.data):
        code["data"] = [config.data, _content(config.data)]
    return code


def mark_foreign(config: Config, root: Path, stored: Config, given: Mapping[str, Any]) -> Config:
    """Note in ``config`` the code that comes from the ``stored`` configuration of the run and that nobody vouches for.

    ``given`` is what this command says: what it names itself is the user's own, unless stored arguments go with it.
    """
    own = {name for name in given if name != "arch" or not stored.arch_kwargs}
    foreign = tuple(name for name in code_named(config) if name not in own)
    return config.with_foreign(() if foreign and _is_sealed(root, stored) else foreign)


def check_trust(config: Config) -> None:
    """Refuse to go on to where code would run that nobody vouches for.

    Raises:
        UsageError: names the code and the ways out.
    """
    if config.foreign and not config.trust_run:
        named = ", ".join(f"{name} {getattr(config, name) or config.arch_kwargs!r}" for name in config.foreign)
        again = " ".join(f"--{name} {getattr(config, name) or '...'}" for name in config.foreign)
        raise UsageError(
            f"run {config.output} names code of its own ({named}), and you did not make it here or that code has "
            f"changed since{_why_no_key()}; look at it, then give --trust-run with this command, or name it yourself "
            f"for good: {again}"
        )


def seal(store: Store, config: Config, progress: Progress) -> None:
    """Vouch for the code that the configuration names, unless it is of a stranger's run."""
    code = code_named(config)
    if config.foreign or not code:
        return
    try:
        key = _key() or _new_key()
    except OSError as error:
        progress.log(f"cannot keep the key of your runs in {_folder()}: {error}; this run will need --trust-run")
        return
    store.write(SEAL, _digest(key, code))


def _is_sealed(root: Path, stored: Config) -> bool:
    with suppress(OSError, UnicodeDecodeError, StorageError):
        key, path = _key(), root / SEAL
        if key is not None and path.stat().st_size <= 1024:
            return hmac.compare_digest(path.read_text(encoding="ascii").strip(), _digest(key, code_named(stored)))
    return False


def _digest(key: bytes, code: Mapping[str, Any]) -> str:
    return hmac.new(key, json.dumps(code, sort_keys=True, default=str).encode(), "sha256").hexdigest()


def _plain(value: Any) -> bool:
    """Return whether an argument of a library's network can name no file and no code: texts can."""
    if isinstance(value, list):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float)


def _content(spec: str) -> str:
    """Return a digest of the file that holds ``file.py:f`` or ``package.module:f``, as seen from here; else ''.

    So a seal says nothing of another file of that name. Installed packages are this user's own.
    """
    place = spec.rpartition(":")[0]
    stem = place.removesuffix(".py") if place.endswith(".py") else place.replace(".", "/")
    for path in (Path(f"{stem}.py"), Path(stem) / "__init__.py"):
        with suppress(OSError, ValueError):
            return hashlib.sha256(path.read_bytes()).hexdigest()
    return ""


def _folder() -> Path:
    """Return the folder of what hant keeps for this user, as the XDG base directories have it.

    Raises:
        StorageError: the user has no home.
    """
    base = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "hant"
    try:
        return Path.home() / ".local" / "state" / "hant"
    except RuntimeError as error:
        raise StorageError(f"{error}; set XDG_STATE_HOME to a folder of your own") from error


def _key() -> bytes | None:
    """Return this user's secret; None if there is none yet.

    Raises:
        OSError: it cannot be read, or others could have made or read it.
    """
    path = _folder() / "key"
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(f"{path} must be a file that you alone can read (chmod 600)")
        key = file.read(_KEY_BYTES + 1)
    if len(key) != _KEY_BYTES:
        raise PermissionError(f"{path} is damaged; delete it, and runs made before need --trust-run")
    return key


def _new_key() -> bytes:
    """Make this user's secret, unless another process was faster; return it."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = folder / f".key.{secrets.token_hex(8)}"
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(fresh, folder / "key")
    finally:
        fresh.unlink()
    key = _key()
    if key is None:
        raise FileNotFoundError(f"{folder / 'key'} is gone")
    return key


def _why_no_key() -> str:
    """Return why no run can be known as this user's own; empty if it can."""
    try:
        _key()
    except (OSError, StorageError) as error:
        return f" (your key cannot be read: {error})"
    return ""
