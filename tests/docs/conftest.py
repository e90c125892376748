"""What blocks of the documentation are run in: a user's network with its data, and a finished run of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

import pytest
from hant.tests.cli.conftest import NETWORK
from hant.transformer.cli.main import main

ROOT = Path(__file__).parent.parent.parent
TARGET = """
name = "quick"
backend = "onnxruntime"
[protocol]
warmup_seconds = 0.02
rounds = 20
max_rounds = 20
"""
JOB = [
    *("model.safetensors", "--arch", "my_package.models:build", "--data", "my_package.data:load"),
    *("--target", "./quick.toml", "--budget", "0.95", "--pool", "teacher,identity,efn_3x3_e1_se1.00"),
    *("--epochs", "1", "--set", "pretrain.epochs=1", "--output", "runs/model", "--quiet"),
]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``my_package``, the weights of its network, a quick target, and the repository's folders."""
    import hant
    import torch
    from safetensors.torch import save_file

    place = tmp_path_factory.mktemp("workplace")
    package = place / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "models.py").write_text(NETWORK + "\n\nbuild = net\n")
    (package / "data.py").write_text("from .models import data as load\n")
    scope: dict[str, object] = {"__name__": "models"}
    exec(NETWORK, scope)
    network = scope["net"]()  # type: ignore[operator]
    for name in ("model", "my_net"):
        save_file(network.state_dict(), place / f"{name}.safetensors")
    hant.save(network.eval(), place / "net.pt", example_inputs=(torch.zeros(2, 1, 12, 12),))
    (place / "quick.toml").write_text(TARGET)
    for name in ("examples", "tests"):
        (place / name).symlink_to(ROOT / name, target_is_directory=True)
    return place


@pytest.fixture(scope="session")
def finished(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it in which ``runs/model`` is finished."""
    place = tmp_path_factory.mktemp("finished") / "work"
    shutil.copytree(workplace, place, symlinks=True)
    modules, path = set(sys.modules), list(sys.path)
    with contextlib.chdir(place):
        assert main(JOB) == 0
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] == "my_package":
            del sys.modules[name]
    return place


@pytest.fixture
def shell() -> dict[str, str]:
    """The environment of a user's shell, in which ``python`` stops benches once their arguments are read."""
    given = Path(__file__).parent / "given"
    paths = (str(given / "bin"), str(Path(sys.executable).parent), os.environ["PATH"])
    return {**os.environ, "PATH": os.pathsep.join(paths), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
