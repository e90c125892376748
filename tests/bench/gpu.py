"""What a quarter of an hour on a GPU can tell: most valuable first, nothing lost when it is cut off.

    python tests/bench/gpu.py --out runs/gpu --minutes 14            # on the machine with the GPU
    python tests/bench/gpu.py --rehearse --out runs/rehearsal        # every stage on the CPU, tiny
    python tests/bench/gpu.py --wheels installed.txt --out wheels    # brings what is missing there, in trips of 60 MiB
    python tests/bench/gpu.py --report runs/gpu/results.json         # writes its tables into docs

Each stage (``gpu_stages.py``) is a process with a limit of its own; what it finds is a line in ``OUT/steps.jsonl`` the
moment it is there, and ``OUT/results.json`` holds all. The same command goes on with what is not done. hant need not be
installed there; what it lacks is found by ``gpu_wheels.py``.

This file uses the standard library alone, so that it can say what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
ROOT = BENCH.parents[1]
STAGES = {"device": 3.0, "latency": 3.0, "throughput": 2.0, "cifar10": 20.0, "tensorrt": 3.0, "front": 5.0}
"""Name -> minutes that a stage may take, in order of value."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/gpu"))
    add("--minutes", type=float, default=14.0, help="for all stages of this command")
    add("--stages", default=",".join(STAGES), help="with commas, in this order")
    add("--rehearse", action="store_true", help="on the CPU, tiny")
    add("--data", type=Path, default=Path(os.environ.get("HANT_DATA", ROOT.parent / "shared" / "data")))
    add("--wheels", type=Path, metavar="LIST", help="installed packages there, NAME==VERSION a line")
    add("--python", default="3.12", help="Python there, for --wheels")
    add("--report", type=Path, metavar="RESULTS", help="results.json to write into docs")
    add("--docs", type=Path, default=ROOT / "docs", help="folder of the pages that --report writes")
    args = parser.parse_args()
    if args.wheels:
        words = [str(args.wheels), "--out", str(args.out), "--data", str(args.data), "--python", args.python]
        raise SystemExit(subprocess.run([sys.executable, str(BENCH / "gpu_wheels.py"), *words], check=False).returncode)
    if args.report:
        for page in report(json.loads(args.report.read_text()), args.docs):
            print(f"written: {page}")
    else:
        raise SystemExit(run(args))


# on the machine with the GPU


def run(args: argparse.Namespace) -> int:
    """Run the stages that are not done, until the minutes are over; return 0 where all are done."""
    args.out.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"PYTHONPATH": importable(args.out / "path"), "PYTHONUNBUFFERED": "1"}
    end = time.monotonic() + 60 * args.minutes
    asked = args.stages.split(",")
    for name in [name for name in asked if outcome(args.out, name) != "done"]:
        minutes = min(STAGES[name], (end - time.monotonic()) / 60)
        if minutes <= 0:
            break
        say(f"{name}: at most {minutes:.1f} minutes")
        command = [sys.executable, str(BENCH / "gpu_stages.py"), name, "--out", str(args.out)]
        command += ["--data", str(args.data), *(["--rehearse"] if args.rehearse else [])]
        started = time.monotonic()
        told = limited(command, environment, args.out / f"{name}.log", 60 * minutes)
        seconds = round(time.monotonic() - started, 1)
        note(args.out, f"stage/{name}", {"outcome": told, "seconds": seconds})
        say(f"{name}: {told} after {seconds:.0f} s")
    known = {name: outcome(args.out, name) for name in asked}
    say(", ".join(f"{name} {told}" for name, told in known.items()) + f"; all is in {args.out / 'results.json'}")
    return 0 if set(known.values()) == {"done"} else 1


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def limited(command: Sequence[str], environment: dict[str, str], log: Path, seconds: float) -> str:
    """Run a command whose output goes to the end of ``log``; return ``done``, ``failed (CODE)`` or ``cut off``."""
    with log.open("a") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return "cut off"
    return "done" if code == 0 else f"failed ({code})"


def importable(folder: Path) -> str:
    """Make this checkout importable as ``hant``, its entry points included, without installing it; return the path."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "hant"
    if not link.exists():
        link.symlink_to(ROOT, target_is_directory=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    facts = folder / f"hant-{project['version']}.dist-info"
    facts.mkdir(exist_ok=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: hant\nVersion: {project['version']}\n")
    lines = []
    for name, points in {"console_scripts": project["scripts"], **project["entry-points"]}.items():
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in points.items())]
    (facts / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return os.pathsep.join(filter(None, (str(folder.resolve()), os.environ.get("PYTHONPATH"))))


def note(out: Path, step: str, facts: dict[str, Any]) -> None:
    """Keep what is known of a step, durably, and write all that is known as ``results.json``."""
    with (out / "steps.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, **facts}) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part = out / "results.json.part"
    part.write_text(json.dumps(steps(out), indent=1))
    part.replace(out / "results.json")


def steps(out: Path) -> dict[str, Any]:
    """Return what is known of each step; what was said last counts. A line that was cut off is none."""
    found: dict[str, Any] = {}
    path = out / "steps.jsonl"
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        found[entry.pop("step")] = entry
    return found


def outcome(out: Path, name: str) -> str:
    return str(steps(out).get(f"stage/{name}", {}).get("outcome", "not begun"))


# from results to documentation


def report(results: dict[str, Any], docs: Path) -> list[Path]:
    """Write the tables of ``results`` between the marks ``<!-- gpu:NAME -->`` and ``<!-- gpu end -->`` of the pages.

    A page without the mark gets a section at its end.
    """
    written = []
    for name, (page, title, table) in TABLES.items():
        lines = table(results)
        if not lines:
            continue
        path = docs / page
        text = path.read_text()
        device = results.get("device/facts", {})
        where = ", ".join(str(device[key]) for key in ("name", "torch", "cuda", "driver", "when") if device.get(key))
        body = f"<!-- gpu:{name} -->\n## {title}\n{where}; `python tests/bench/gpu.py`.\n\n" + "\n".join(lines)
        body += "\n<!-- gpu end -->"
        before, mark, rest = text.partition(f"<!-- gpu:{name} -->")
        after = rest.partition("<!-- gpu end -->")[2] if mark else "\n"
        start = before if mark else f"{before.rstrip()}\n\n"
        path.write_text(f"{start}{body}{after}")
        written.append(path)
    return written


def rows(head: Sequence[str], lines: Iterable[Sequence[object]]) -> list[str]:
    """Return a table in Markdown; empty where it has no lines."""
    body = ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *body] if body else []


def under(results: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the facts of the steps under ``prefix``, by the rest of their names."""
    return {step.removeprefix(prefix): facts for step, facts in results.items() if step.startswith(prefix)}


def latency_table(results: dict[str, Any]) -> list[str]:
    tables = under(results, "latency/table/") | under(results, "tensorrt/table/")
    found = rows(
        ("target", "rows of the table", "seconds", "networks", "mean error, %", "bias, %", "Kendall's tau"),
        (
            (
                *(target, f["rows"], f"{f['seconds']:.0f}", f["networks"]),
                *(f"{f['error']:.2f}", f"{f['bias']:+.2f}", f"{f['tau']:.3f}"),
            )
            for target, f in tables.items()
        ),
    )
    kept = under(results, "latency/promise/") | under(results, "tensorrt/promise/")
    promise = rows(
        ("target, budget", "second timing (99 % interval)", "networks measured"),
        ((key.replace("/", ", "), f.get("refused") or timed(f), f.get("measured", "")) for key, f in kept.items()),
    )
    return [*found, *([""] if found and promise else []), *promise]


def timed(facts: dict[str, Any]) -> str:
    return f"{facts['ratio']:.4f} ({facts['low']:.4f} to {facts['high']:.4f})"


def throughput_table(results: dict[str, Any]) -> list[str]:
    return rows(
        ("way", "candidate-images a second", "times one by one", "share of the time that kernels run"),
        (
            (way, f"{f['rate']:.0f}", f"{f['gain']:.2f}", "" if f["busy"] is None else f"{100 * f['busy']:.0f} %")
            for way, f in under(results, "throughput/").items()
        ),
    )


def students_table(results: dict[str, Any]) -> list[str]:
    found = under(results, "cifar10/")
    teacher = found.get("teacher", {}).get("accuracy")
    going = found.get("pretraining")
    rate = (
        [f"{going['steps']} steps of {going['candidates']} candidates, {going['rate']:.0f} a second.", ""]
        if going
        else []
    )
    lines = rows(
        ("student", "latency to teacher", "top-1", "teacher"),
        (
            (key.removesuffix("/after"), f"{f['ratio_teacher']:.3f}", f"{f['accuracy']:.2f}", teacher)
            for key, f in found.items()
            if key.endswith("/after")
        ),
    )
    return [*rate, *lines]


def front_table(results: dict[str, Any]) -> list[str]:
    found = under(results, "front/")
    shared = found.pop("shared", None)
    lines = rows(
        ("budget", "latency to teacher", "top-1", "drop", "why not"),
        (
            (f["budget"], f"{f['ratio']:.3f}", f"{f['accuracy']:.2f}", f"{f['drop']:.2f}", f["reason"])
            if f["made"]
            else (f["budget"], "", "", "", f["reason"])
            for f in found.values()
        ),
    )
    if lines and shared is not None:
        means = ", ".join(f"{value:.2f} on {target}" for target, value in shared["mean_accuracy"].items())
        lines += ["", f"One training of {shared['seconds']:.0f} s; mean Pareto accuracy {means}."]
    return lines


TABLES = {
    "latency": ("latency.md", "On a GPU", latency_table),
    "throughput": ("pretraining.md", "On a GPU", throughput_table),
    "students": ("results.md", "Students trained on a GPU", students_table),
    "front": ("once-for-all.md", "On a GPU", front_table),
}
"""Name of the mark -> page, heading, what makes the lines."""


if __name__ == "__main__":
    main()
