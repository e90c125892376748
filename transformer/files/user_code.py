"""Importing what the user names, ``package.module`` or ``file.py``: found where ``python`` itself would look."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from ..tools.files import expanded


def import_named(place: str) -> ModuleType:
    """Import a module by name, also from the working directory, or a file, which may import what lies beside it.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: there is no such module.
        Exception: whatever the module's own code raises.
    """
    if not place.endswith(".py"):
        _look_in(Path.cwd())
        importlib.invalidate_caches()  # a module may have been written a moment ago
        return importlib.import_module(place)
    path = expanded(place).resolve()
    if not path.is_file():
        raise FileNotFoundError(place)
    _look_in(path.parent)
    name = _free_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling in the user's file look themselves up there
    spec.loader.exec_module(module)
    return module


def _look_in(folder: Path) -> None:
    """Let imports, late ones in functions too, find what lies in ``folder``."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _free_name(path: Path) -> str:
    """Return the file's own name, by which other processes find it, unless another module bears it."""
    known = sys.modules.get(path.stem)
    ours = known is None or getattr(known, "__file__", None) == str(path)
    return path.stem if ours else f"_hant_{path.stem}"
