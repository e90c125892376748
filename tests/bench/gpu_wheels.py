"""What to bring to a machine with a GPU that reaches no package index: wheels and CIFAR-10, in trips of 60 MiB.

    python tests/bench/gpu.py --wheels installed.txt --out wheels --python 3.12

``installed.txt`` is what ``pip list --format=freeze`` prints there. Each requirement of hant and its tests that is not
fulfilled there is downloaded alone, then what it asks for in turn; what is there stays. There, each trip is
installed with ``python -m pip install --no-index --no-deps FOLDER/*.whl``, or unpacked into a folder on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import email
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parents[2]
TRIP = 60 * 2**20
"""Bytes that are brought at a time."""
_MINORS = (39, 35, 34, 31, 28, 27, 24, 17)
"""Of glibc 2: pip matches them exactly."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("installed", type=Path)
    parser.add_argument("--out", type=Path, default=Path("wheels"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--python", default="3.12")
    args = parser.parse_args()
    there = installed(args.installed.read_text())
    print(f"{len(there)} packages there, hant and its tests lack " + ", ".join(map(str, lacking(needed(), there))))
    folder = args.out / "all"
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(download(lacking(needed(), there), there, folder, args.python))
    files += sorted(args.data.glob("cifar10-*.npz")) + sorted((args.data / "teachers").glob("cifar10-*.safetensors"))
    for number, trip in enumerate(trips([(path, path.stat().st_size) for path in files]), start=1):
        place = args.out / f"trip-{number}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for path, _ in trip:
            shutil.copy(path, place)
        told = ", ".join(f"{path.name} ({bytes_ / 2**20:.1f})" for path, bytes_ in trip)
        print(f"{place}: {sum(bytes_ for _, bytes_ in trip) / 2**20:.1f} MiB: {told}")


def installed(listed: str) -> dict[str, str]:
    """Return the version of each package that pip listed, by its canonical name."""
    return {
        canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", listed, re.MULTILINE)
    }


def needed() -> list[Requirement]:
    """Return what hant and the tests of a GPU require."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tests = [need for need in project["optional-dependencies"]["dev"] if re.match("hypothesis|psutil|pytest", need)]
    return [Requirement(text) for text in [*project["dependencies"], *tests]]


def lacking(wanted: Iterable[Requirement], there: dict[str, str]) -> list[Requirement]:
    """Return the requirements that ``there`` (canonical name -> version) does not fulfil."""
    return [
        need
        for need in wanted
        if canonicalize_name(need.name) not in there
        or not need.specifier.contains(there[canonicalize_name(need.name)], prereleases=True)
    ]


def download(wanted: Sequence[Requirement], there: dict[str, str], folder: Path, python: str) -> list[Path]:
    """Download the wheels of ``wanted`` and of what they ask for in turn; return their files."""
    found: dict[str, Path] = {}
    waiting = deque(wanted)
    while waiting:
        need = waiting.popleft()
        name = canonicalize_name(need.name)
        if name in found and need.specifier.contains(parse_wheel_filename(found[name].name)[1], prereleases=True):
            continue
        found[name] = fetch(need, folder, python)  # again where somebody asks for another version, as of a release
        waiting.extend(lacking(asked_by(found[name], python), there))
    return list(found.values())


def fetch(need: Requirement, folder: Path, python: str) -> Path:
    """Return the file of a wheel for Linux on x86-64, downloaded where it is not there."""
    name = canonicalize_name(need.name)
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in _MINORS]
    platforms += ["--platform=manylinux2014_x86_64", "--platform=manylinux1_x86_64"]
    fixed = ["--only-binary=:all:", "--no-deps", f"--python-version={python}", "--implementation=cp", *platforms]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *fixed, "--dest", str(folder)]
    subprocess.run([*command, f"{need.name}{need.specifier}"], check=True)
    versions = {parse_wheel_filename(path.name)[:2]: path for path in folder.glob("*.whl")}
    fitting = {version: path for (own, version), path in versions.items() if own == name and version in need.specifier}
    return fitting[max(fitting)]


def asked_by(wheel: Path, python: str) -> list[Requirement]:
    """Return what a wheel requires on Linux, without its extras."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
    place = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    place |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    found = [Requirement(line) for line in lines]
    return [need for need in found if need.marker is None or need.marker.evaluate(place)]


def trips(files: Sequence[tuple[Path, int]]) -> list[list[tuple[Path, int]]]:
    """Return files (path, bytes) in groups of at most ``TRIP`` bytes, in their order; a larger one is alone."""
    found: list[list[tuple[Path, int]]] = []
    for path, count in files:
        fitting = (trip for trip in found if sum(other for _, other in trip) + count <= TRIP)
        trip = next(fitting, None)
        if trip is None:
            found.append([(path, count)])
        else:
            trip.append((path, count))
    return found


if __name__ == "__main__":
    main()
