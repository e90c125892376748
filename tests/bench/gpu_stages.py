"""The stages of ``gpu.py``, each in a process of its own; every finding is written when it is there."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hant import Budget, RunStore, once_for_all, pool
from hant.backends.measuring.statistics import ratio_interval
from hant.backends.targets.load import load_target
from hant.op_library.op_spec import OpSpec
from hant.passes.candidates.build import build_candidate
from hant.passes.candidates.candidates import CandidatesPass
from hant.passes.candidates.records import OperationRecord
from hant.passes.capturing.capture import CapturePass
from hant.passes.latency.measure import measure_networks
from hant.passes.latency.predict import predict
from hant.passes.latency.profile import ProfilePass
from hant.passes.latency.records import LatencyModelRecord, NetworkLatencyRecord
from hant.passes.latency.table import operation_ms, slower
from hant.passes.pretraining.engine import train, variances
from hant.passes.pretraining.partial import TrainingRecord
from hant.passes.pretraining.recipe import Recipe, resolve
from hant.passes.pretraining.records import CandidateRecord
from hant.passes.pretraining.trainer import Trainer
from hant.passes.selecting.proxy import kendall
from hant.passes.selecting.select import SelectPass, settle
from hant.passes.selecting.table import SearchTable
from hant.tests.bench import gpu
from hant.tests.bench.search_cifar10 import make_context
from hant.transformer.contracts.context import Context
from hant.transformer.data.images import size
from hant.transformer.data.splits import split, take
from hant.transformer.errors import HantError, InfeasibleError
from hant.transformer.plugins import load_plugin
from hant.transformer.runs.follower import FollowerStore
from hant.transformer.tools.files import slug

BENCH = Path(__file__).parent
BUDGETS = (0.3, 0.45, 0.6)


@dataclass(frozen=True)
class Job:
    """What a stage works on: CIFAR-10's ResNet-56 on the GPU, or the digits on the CPU to rehearse."""

    out: Path
    data: Path
    rehearse: bool

    def __post_init__(self) -> None:
        if not self.rehearse and not torch.cuda.is_available():
            raise SystemExit(
                "this machine has no CUDA device that PyTorch sees; --rehearse tries the stages on the CPU"
            )

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.rehearse else "cuda")

    @property
    def target(self) -> str:
        """Name of the target, or the file of one that is timed just long enough to have a time."""
        if not self.rehearse:
            return "cuda-torch"
        path = self.out / "rehearsal.toml"
        path.write_text(
            'name = "rehearsal"\nbackend = "pytorch"\nbatch_size = 4\n[options]\nmode = "eager"\n'
            "[protocol]\nwarmup_seconds = 0.01\nrounds = 4\nmax_rounds = 4\n"
        )
        return str(path)

    @property
    def pool(self) -> str:
        return "teacher,identity,cb_res_3x3" if self.rehearse else "fast"

    @property
    def study_pool(self) -> str:
        """The pool that students are made of."""
        return self.pool if self.rehearse else "hant-197"

    @property
    def words(self) -> list[str]:
        """Options of the benches that work on this job."""
        teacher = "digits" if self.rehearse else "cifar10-resnet56"
        words = ["--data", str(self.data), "--teacher", teacher, "--target", self.target, "--device", str(self.device)]
        return [*words, "--images", "160" if self.rehearse else "50000"]

    def context(self, store: RunStore, pool_name: str = "", target: str = "") -> Context:
        parser = argparse.ArgumentParser()
        for name in ("teacher", "target", "device", "pool"):
            parser.add_argument(f"--{name}")
        parser.add_argument("--data", type=Path)
        parser.add_argument("--images", type=int)
        words = [*self.words, "--pool", pool_name or self.pool]
        context = make_context(parser.parse_args(words), store)
        if target:
            chosen = load_target(target)
            context = replace(context, target=chosen, backend=load_plugin("hant.backends", chosen.backend)())
        return replace(context, graph=CapturePass().run(context).graph)

    def note(self, step: str, **facts: Any) -> None:
        gpu.note(self.out, step, facts)

    def has(self, step: str) -> bool:
        return step in gpu.steps(self.out)


def device(job: Job) -> None:
    """What the machine is; then the tests that need a GPU, every failure with its traceback."""
    facts: dict[str, Any] = {
        "when": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "torch": torch.__version__,
        "cuda": torch.version.cuda or "", "name": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }  # fmt: skip
    if job.device.type == "cuda":
        found = torch.cuda.get_device_properties(job.device)
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
        facts |= {"name": found.name, "memory": found.total_memory, "capability": [found.major, found.minor],
                  "driver": f"driver {driver}"}  # fmt: skip
    job.note("device/facts", **facts)
    command = [sys.executable, "-m", "pip", "list", "--format=freeze"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    (job.out / "installed.txt").write_text(listed.stdout)  # what --wheels reads
    path = job.out / "tests.xml"
    which = ["tests/backends/measuring/test_cuda.py"] if job.rehearse else []
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        f"--junitxml={path}",
        "-p",
        "no:cacheprovider",
        *which,
    ]
    code = subprocess.run(command, cwd=gpu.ROOT, check=False).returncode
    job.note("device/tests", code=code, **(outcomes(path) if path.exists() else {}))


def outcomes(path: Path) -> dict[str, Any]:
    """Return how many tests passed, why others were skipped, and the tracebacks of those that failed."""
    failures, skipped, passed = {}, {}, 0
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        problem = next((part for part in case if part.tag in ("failure", "error", "skipped")), None)
        if problem is None:
            passed += 1
        elif problem.tag == "skipped":
            skipped[name] = problem.get("message")
        else:
            failures[name] = problem.text
    return {"passed": passed, "failed": failures, "skipped": skipped}


def latency(job: Job, target: str = "", prefix: str = "latency") -> None:
    """Stopwatch, lookup table against measured networks, and the promise at three budgets, without any training."""
    name = Path(target or job.target).stem
    with RunStore(job.out / f"run-{slug(name)}") as store:
        context = job.context(store, target=target)
        CandidatesPass().run(context)
        started = time.monotonic()
        ProfilePass().run(context)
        seconds = time.monotonic() - started
        own = dict.fromkeys((block.name for block in context.teacher.replaceable), "teacher")
        if not job.has(f"{prefix}/stopwatch/{name}"):
            found = [ratio_interval(again.timing, again.teacher) for again in measure_networks(context, [own] * 4)]
            values = [ratio.value for ratio in found]
            wrong = sum(not ratio.low <= 1 <= ratio.high for ratio in found)
            job.note(f"{prefix}/stopwatch/{name}", ratios=values, wrong=wrong, count=len(values))
        choices = random_choices(context, 4 if job.rehearse else 12)
        measured = measure_networks(context, choices)
        model = store.get(LatencyModelRecord, "model")
        assert model is not None, "profile writes it"
        expected = np.array([predict(store, choice) / model.teacher_ms for choice in choices])
        real = np.array([record.timing.ms / record.teacher.ms for record in measured])
        errors = 100 * (expected / real - 1)
        job.note(
            f"{prefix}/table/{name}", rows=len(operation_ms(store)), seconds=seconds, networks=len(choices),
            error=float(abs(errors).mean()), bias=float(errors.mean()), tau=kendall(expected, real.tolist()),
        )  # fmt: skip
        for budget in BUDGETS[-1:] if job.rehearse else BUDGETS:
            if not job.has(f"{prefix}/promise/{name}/{budget}"):
                job.note(f"{prefix}/promise/{name}/{budget}", **promised(context, budget))


def promised(context: Context, budget: float) -> dict[str, Any]:
    """Return the second timing of the network that keeps most arithmetic within the budget."""
    table, before = plain_table(context), context.store.count(NetworkLatencyRecord.kind)
    select = SelectPass(budget=Budget.parse(str(budget)), solutions=1)
    try:
        limit, _ = settle(context, table, select)
        choice = table.choice(select.solve(table, context.teacher, limit, 1)[0].choice)
    except InfeasibleError as error:
        return {"refused": str(error)}
    count = context.store.count(NetworkLatencyRecord.kind) - before
    (again,) = measure_networks(context, [choice])
    ratio = ratio_interval(again.timing, again.teacher)
    return {"ratio": ratio.value, "low": ratio.low, "high": ratio.high, "measured": count}


def plain_table(context: Context) -> SearchTable:
    """Return what can be chosen with the share of a block's MACs that an operation saves as its loss."""
    ms, slow = operation_ms(context.store), slower(context.store)
    listed = context.store.all(OperationRecord)
    rows: list[list[OperationRecord]] = []
    for block in context.teacher.replaceable:
        keys = [f"{block.name}/{spec.name}" for spec in context.pool]
        found = [listed[key] for key in keys if listed[key].fits and key not in slow]
        rows.append(sorted(found, key=lambda record: record.operation != "teacher"))
    return SearchTable(
        blocks=tuple(row[0].block for row in rows),
        operations=tuple(tuple(record.operation for record in row) for row in rows),
        loss=tuple(np.array([max(0.0, 1 - r.macs / row[0].macs) for r in row]) for row in rows),
        cost={
            "ms": tuple(np.array([ms[r.latency_key] for r in row]) for row in rows),
            "macs": tuple(np.array([float(r.macs) for r in row]) for row in rows),
            "params": tuple(np.array([float(r.parameters) for r in row]) for row in rows),
            "memory": tuple(np.array([4.0 * r.parameters for r in row]) for row in rows),
        },
    )


def random_choices(context: Context, count: int) -> list[dict[str, str]]:
    table, generator = plain_table(context), np.random.default_rng(0)
    return [
        table.choice(np.array([generator.integers(len(names)) for names in table.operations])) for _ in range(count)
    ]


def throughput(job: Job) -> None:
    """Eight operations of every block in training: one by one, together, and side by side on streams."""
    with RunStore(job.out / "run-throughput") as store:
        context = job.context(store, "teacher,identity" if job.rehearse else "fast")
        specs = [spec for spec in pool(job.pool) if spec.name not in ("teacher", "identity")][
            : 2 if job.rehearse else 8
        ]
        fit = split(context.dataset, 0).fit
        recipe = replace(resolve(size(fit), 0), steps=4 if job.rehearse else 40)
        scale = variances(context.teacher, take(fit, 512), recipe.batch_size, job.device)
        context.teacher.module.to(job.device)
        one = 0.0
        for way, streams in (("one by one", 0), ("together", 0), ("streams and graphs", 8)):
            trainers = trainers_of(context, specs, recipe)
            groups = [trainers] if way != "one by one" else [[each] for each in trainers[:: max(1, len(trainers) // 8)]]

            def work(groups: list[list[Trainer]] = groups, streams: int = streams) -> None:
                for group in groups:
                    train(context.teacher, group, recipe, fit, scale, job.device, streams=streams)

            seconds, busy = profiled(job, work)
            count = sum(map(len, groups))
            rate = recipe.steps * recipe.batch_size * count / seconds
            one = one or rate
            job.note(f"throughput/{way}", rate=rate, gain=rate / one, busy=busy, candidates=count)


def trainers_of(context: Context, specs: Sequence[OpSpec], recipe: Recipe) -> list[Trainer]:
    """Return a trainer for each block and operation that fits, its module where the teacher is."""
    found = []
    for block in context.teacher.replaceable:
        for spec in specs:
            if spec.unfit(block.input, block.output) is None:
                module = build_candidate(block, spec, 0).to(context.device)
                found.append(Trainer(block.name, spec.name, module, recipe))
    return found


def profiled(job: Job, work: Callable[[], object]) -> tuple[float, float | None]:
    """Return the seconds of ``work``, and the share of them in which kernels ran; None on a CPU."""
    if job.device.type == "cpu":
        started = time.monotonic()
        work()
        return time.monotonic() - started, None
    activities = [torch.profiler.ProfilerActivity.CUDA]
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=activities) as profile:
        started = time.monotonic()
        work()
        torch.cuda.synchronize()
        seconds = time.monotonic() - started
    kernels = sum(event.self_device_time_total for event in profile.key_averages()) / 1e6
    return seconds, kernels / seconds


def cifar10(job: Job) -> None:
    """The whole pool for one epoch, then students at the siblings' latencies; goes on where it was cut off."""
    study = job.out / "siblings"
    words = [*job.words, "--run", str(study), "--pool", job.study_pool]
    if job.rehearse:
        words += ["--siblings", "", "--budgets", "0.8", "--seeds", "2"]
        words += ["--epochs", "1", "--align-epochs", "1", "--pretrain-epochs", "1"]
        words += ["--score-images", "60", "--test-images", "100", "--solutions", "2"]
    else:
        words += ["--pretrain-precision", "bf16", "--mixed-precision", "bf16", "--epochs", "30", "--solutions", "50"]
        words += ["--seeds", "3"]
    process = subprocess.Popen([sys.executable, str(BENCH / "results_siblings.py"), *words])
    while (ended := process.poll()) is None:
        time.sleep(1 if job.rehearse else 10)
        copy_steps(job, study)
        note_rate(job, study / slug(job.study_pool))
    copy_steps(job, study)
    if ended:
        raise SystemExit(f"results_siblings.py ended with {ended}")


def copy_steps(job: Job, study: Path) -> None:
    """Keep what the study has finished since."""
    for step, facts in gpu.steps(study).items():
        if not job.has(f"cifar10/{step}"):
            job.note(f"cifar10/{step}", **{name: value for name, value in facts.items() if name != "choice"})


def note_rate(job: Job, run: Path) -> None:
    """Keep how far pretraining is, for where it is cut off: what each candidate has behind it, and the rate of it."""
    try:
        with closing(FollowerStore(run)) as store:
            done = [(record.steps, record.seconds) for record in store.all(TrainingRecord).values()]
            done += [(record.steps, record.seconds) for record in store.all(CandidateRecord).values()]
    except HantError:
        return  # not yet begun
    steps = sum(count for count, _ in done)
    if steps:
        seconds = sum(spent for _, spent in done)
        job.note(
            "cifar10/pretraining", candidates=len(done), steps=steps, seconds=seconds, rate=steps / max(seconds, 1e-9)
        )


def tensorrt(job: Job) -> None:
    """The same figures of latency in TensorRT for RTX, where it is."""
    if job.rehearse:
        return latency(job, job.target, "tensorrt")
    target = load_target("rtx4090-trtrtx")
    reason = load_plugin("hant.backends", target.backend)().unavailable(target)
    if reason is not None:
        return job.note("tensorrt/absent", reason=reason)
    return latency(job, "rtx4090-trtrtx", "tensorrt")


def front(job: Job) -> None:
    """Students for several budgets from one shared training of slices of the teacher's own blocks."""
    budgets = ("0.6", "0.9") if job.rehearse else ("0.3", "0.45", "0.6", "0.75")
    epochs = {"epochs": 1, "align_epochs": 1} if job.rehearse else {"epochs": 10, "align_epochs": 2}
    with RunStore(job.out / "front-teacher") as store:
        context = job.context(store)
        found = once_for_all(
            context.model,
            data=context.dataset,
            budgets=budgets,
            targets=(job.target,),
            pool="teacher,identity,slice_w0.5" if job.rehearse else "elastic",
            run=job.out / "front",
            device=str(job.device),
            passes={"shrink": epochs},
        )
    for point in found.report.points:
        job.note(f"front/{point.student}", **point.model_dump(mode="json", exclude={"student"}))
    job.note("front/shared", mean_accuracy=found.mean_accuracy, cost=found.cost, seconds=found.report.seconds)


STAGES: dict[str, Callable[[Job], object]] = {
    "device": device, "latency": latency, "throughput": throughput, "cifar10": cifar10, "tensorrt": tensorrt,
    "front": front,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rehearse", action="store_true")
    args = parser.parse_args()
    try:
        STAGES[args.stage](Job(args.out, args.data, args.rehearse))
    except HantError as error:
        raise SystemExit(f"{args.stage}: {error}") from error


if __name__ == "__main__":
    main()
