"""A run's directory holds its own files only: links and special files in it are refused, never followed."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ..errors import StorageError

IN_PLACE = ("run.sqlite", "run.sqlite-wal", "run.sqlite-shm", "run.sqlite-journal")
"""Files that are changed where they are; others are replaced by a rename, which leaves other names of them alone."""
_FORMER, _FORMER_GOAL = "targets/*/candidates", "../../candidates"
"""The one link that hant itself once made in a run, and where it led."""


def check_inside(root: Path) -> list[Path]:
    """Refuse a run that holds a link or a special file; return the temporary files that a killed process left.

    Raises:
        StorageError: names the entry, and what to do.
    """
    leftovers, folders = [], [root] if root.is_dir() else []
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                    continue
                if entry.is_symlink() and path.match(_FORMER) and os.readlink(path) == _FORMER_GOAL:
                    path.unlink()  # of an earlier version; nothing is read through it any more
                    continue
                with suppress(FileNotFoundError):  # renamed by the process that has the run open
                    _check_file(path, entry.stat(follow_symlinks=False), root)
                if entry.name.startswith(".") and entry.name.endswith(".tmp"):
                    leftovers.append(path)
    return leftovers


def inside(root: Path, relative: str) -> Path:
    """Return the path of a file of the run.

    Raises:
        StorageError: ``relative`` leads out of the run; records of a run that came from elsewhere can say so.
    """
    parts = PurePosixPath(relative)
    if parts.is_absolute() or ".." in parts.parts or "\0" in relative:
        raise StorageError(f"run {root} names {relative!r} as a file of its own, which is outside of it; do not use it")
    return root / relative


def _check_file(path: Path, status: os.stat_result, root: Path) -> None:
    name = path.relative_to(root)
    if stat.S_ISLNK(status.st_mode):
        what = "is a link, and links inside a run are not followed; put the file or folder itself there"
    elif not stat.S_ISREG(status.st_mode):
        what = "is neither a file nor a folder; remove it"
    elif status.st_nlink > 1 and path.parent == root and path.name in IN_PLACE:
        what = f"has a second name elsewhere (a hard link), which would change with it; copy the run (cp -r {root} NEW)"
    else:
        return
    raise StorageError(f"run {root}: {name} {what}, or give another --output")
