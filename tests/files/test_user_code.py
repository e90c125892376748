"""The user's own modules are found where Python would find them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hant.transformer.files.user_code import import_named


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test imports, and where from."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def test_a_package_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").touch()
    (tmp_path / "own_package" / "parts.py").write_text("value = 3")
    (tmp_path / "own_package" / "models.py").write_text("from .parts import value")
    monkeypatch.chdir(tmp_path)
    assert import_named("own_package.models").value == 3
    with pytest.raises(ModuleNotFoundError, match=r"own_package\.modles"):
        import_named("own_package.modles")


def test_a_file_imports_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("value = 4")
    (tmp_path / "mine.py").write_text(
        "from beside_it import value\ndef late():\n    import beside_it as b\n    return b"
    )
    module = import_named(str(tmp_path / "mine.py"))
    assert (module.value, module.late().value) == (4, 4)
    with pytest.raises(FileNotFoundError, match=r"none\.py"):
        import_named(str(tmp_path / "none.py"))


def test_a_file_is_read_anew_and_takes_no_name_of_another(tmp_path: Path) -> None:
    file = tmp_path / "json.py"
    file.write_text("value = 5")
    assert import_named(str(file)).value == 5
    assert sys.modules["json"].dumps([]) == "[]"
    own = tmp_path / "changing_one.py"
    for value in (1, 20):
        own.write_text(f"value = {value}")
        assert import_named(str(own)).value == value
    assert sys.modules["changing_one"].value == 20
