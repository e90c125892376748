"""Opening a run: from a configuration to a context that passes can work on."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...op_library.op_spec import OpSpec
from ..contracts.backend import Backend
from ..contracts.context import Context
from ..contracts.data import Data
from ..contracts.progress import Progress
from ..contracts.record import STUDENT
from ..contracts.store import Store
from ..contracts.target import Target
from ..data.check import check_data
from ..errors import HantError, StorageError, UnverifiedError, UsageError
from ..plugins import load_plugin
from ..runs.follower import FollowerStore
from ..runs.identity import check_identity
from ..runs.processes import join, processes, wait
from ..runs.records import NamedRecord
from ..runs.store import RunStore
from ..tools.files import slug, write_atomically
from .build import defaults, effective
from .changes import flags_of
from .config import FILE, Config, dump
from .inputs import example_inputs, load_data, load_model, of_space, part, space_network
from .pipeline import Pipeline
from .trust import SEAL, seal


@dataclass(frozen=True)
class Materials:
    """What an optimisation is made from, loaded; names in the configuration, or objects that a program gave."""

    model: nn.Module
    example_inputs: tuple[Tensor, ...]
    target: Target
    backend: Backend
    pool: tuple[OpSpec, ...]
    data: Data | None = None


def load_materials(
    config: Config,
    *,
    model: nn.Module | None = None,
    data: Data | None = None,
    target: Target | None = None,
    pool: tuple[OpSpec, ...] | None = None,
) -> Materials:
    """Load what the configuration names; objects that are given stand in for their names.

    Raises:
        UsageError: something named is unknown, unreadable or does not fit the rest.
    """
    from ...backends.targets.load import load_target
    from ...op_library.pools import operation
    from ...op_library.pools import pool as named_pool

    if target is None:
        target = load_target(config.target)
    changes = {"precision": config.precision, "batch_size": config.batch_size}
    target = target.model_copy(update={name: value for name, value in changes.items() if value is not None})
    backend: Backend = load_plugin("hant.backends", target.backend)()
    if pool is None:
        pool = named_pool(config.pool)
    if all(spec.name != "teacher" for spec in pool):
        pool = (operation("teacher"), *pool)  # a block may always stay as it is
    if model is None and of_space(config):
        if data is None and config.data is not None:
            data = load_data(config, nn.Identity())
        model = space_network(config, data)
    if model is None:
        model = load_model(config)
    if data is None and config.data is not None:
        data = load_data(config, model)
    elif data is not None:
        check_data(data)
    inputs = example_inputs(config, model, data)
    if config.submodule is not None:
        model, inputs = part(model, config.submodule, inputs, data)
    return Materials(model, inputs, target, backend, pool, data)


def default_output(config: Config) -> str:
    """Return where a run goes if nothing is said."""
    name = Path(config.model.strip("<>")).stem or config.arch or "run"
    return str(Path("runs") / f"{slug(name)}-{slug(Path(config.target).stem)}")


def check_place(root: Path) -> None:
    """Refuse a place where no run can be.

    Raises:
        StorageError: a file, or a folder with something else in it.
    """
    if root.exists() and not root.is_dir():
        raise StorageError(f"--output {root} is a file; give the name of a folder, which is made where there is none")
    if root.is_dir() and any(root.iterdir()) and not (root / "run.sqlite").exists():
        raise StorageError(f"{root} is not empty and not a run of hant; give another --output")


@contextmanager
def open_run(
    config: Config,
    root: Path,
    materials: Materials,
    pipeline: Pipeline,
    progress: Progress | None = None,
    only: Collection[str] | None = None,
) -> Iterator[Context]:
    """Open or create the run at ``root``, save the student's effective configuration in it, and yield the context.

    Nothing is saved before all was checked that the passes, or those named in ``only``, require. Where an error ends
    the work before any pass has made something new, the run has its former configuration back.

    Raises:
        UsageError: the run was made with another teacher, other data or another seed, or lacks what a pass requires.
        StorageError: the directory cannot be used.
    """
    check_place(root)
    training_device(config.device)  # several processes meet on it before they wait for each other
    if not processes().main:
        with _follow(root) as followed:
            yield make_context(config, materials, followed.of(config.student))
        return
    with RunStore(root) as run:
        context = make_context(config, materials, run.of(config.student), progress)
        store = context.store
        check_identity(context)
        whole = effective(config, pipeline).model_copy(update={"output": str(root)})
        before = {name: store.path(name).read_text("utf-8") for name in (FILE, SEAL) if store.path(name).is_file()}
        if not run.path(FILE).is_file():  # what all students have in common is kept by the one without a name
            keep(run, whole, context.progress)
        usual = before.get(FILE) or run.path(FILE).read_text("utf-8")
        pipeline.check(context, only, flags_of(usual, dump(whole), defaults(pipeline)))
        held = pipeline.results(store)
        keep(store, whole, context.progress)
        for _ in range(2):  # until the others may read the records, and until they have
            wait()
        try:
            yield context
        except UnverifiedError:
            raise
        except HantError:
            if FILE in before and pipeline.results(store) == held:
                for name, text in before.items():
                    store.write(name, text)
            raise


def keep(store: Store, config: Config, progress: Progress) -> None:
    """Save a student's configuration, with whole paths, vouch for it as it is saved, and list the student."""
    store.write(FILE, dump(config))
    seal(store, config, progress)
    implied = NamedRecord(table="") if store.student == STUDENT else None
    named = NamedRecord(table=store.table)
    if named != (store.get(NamedRecord, NamedRecord.kind) or implied):
        store.put(NamedRecord.kind, named)


@contextmanager
def _follow(root: Path) -> Iterator[Store]:
    """Open the run of the main process, once that has opened it."""
    wait()
    with FollowerStore(root) as store:
        wait()
        yield store


@contextmanager
def scratch_context(config: Config, materials: Materials) -> Iterator[Context]:
    """Yield the context of a run that is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="hant-") as folder, RunStore(Path(folder)) as store:
        yield make_context(config, materials, store)


def make_context(config: Config, materials: Materials, store: Store, progress: Progress | None = None) -> Context:
    """Return the context of a run."""
    return Context(
        model=materials.model,
        example_inputs=materials.example_inputs,
        store=store,
        target=materials.target,
        backend=materials.backend,
        pool=materials.pool,
        data=materials.data,
        seed=config.seed,
        device=training_device(config.device),
        progress=progress or Progress(),
    )


def training_device(name: str) -> torch.device:
    """Return the device that ``name`` means; ``auto`` is CUDA where there is one.

    Of several processes each has a device of its own, as accelerate shares them out.

    Raises:
        UsageError: unknown, or not on this machine.
    """
    if processes().count > 1:
        return join(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device {name!r} is not on this machine ({torch.cuda.device_count()} CUDA devices); give --device cpu"
        )
    return device


def save_config(config: Config, path: Path) -> None:
    """Write the configuration as TOML, atomically.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, dump(config))
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
