"""Designing a network: before the run of the design, its MasterNet is trained where it has no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ...op_library.structure import Structure, SuperBlockNetwork
from ...passes.designing.inherit import fresh
from ...passes.designing.master import master_of
from ..contracts.budget import Budget
from ..contracts.data import Data
from ..contracts.progress import Progress
from ..contracts.target import Target
from ..data.check import label_range, sample
from ..errors import UsageError
from ..files.save import save
from ..runs.store import RunStore
from . import session
from .build import build_pipeline
from .config import Config, make, merge
from .inputs import load_data
from .optimize import Result, new_folder, optimize

FOLDER = "master"
"""Where in the run of a design the MasterNet is trained."""
NETWORK = "masternet.safetensors"
"""The trained MasterNet there, as a checkpoint that describes itself."""
_PREFIX = "genet:"


def design(
    model: nn.Module | str | Path,
    *,
    data: Data | str,
    target: Target | str = "cpu-ort",
    budget: Budget | float | str,
    master: str | None = None,
    run: Path | str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Design a network for ``budget`` on ``target``: its structure is searched around a MasterNet's.

    ``model`` is a structure, ``genet:cifar`` or ``genet:`` and its text, whose network is trained first and then is the
    teacher; or a trained network, with the ``master`` around which to search. ``options`` and ``run`` are as
    ``hant.optimize`` has them. ``Result.structure`` is what was designed.

    Raises:
        UsageError: something given is unknown or does not fit.
        InfeasibleError: no structure around the MasterNet is within the budget.
        UnverifiedError: the network was made but not verified on the target; the run has it.
    """
    named = f"<{type(model).__name__}>" if isinstance(model, nn.Module) else str(model)
    config = make({"model": named, "search": "design", **options}, "hant.design")
    root = new_folder(Path(session.default_output(config))) if run is None else Path(run)
    given = data if isinstance(data, Data) else None
    config = config.model_copy(update={"data": None if given else data, "master": master})
    config = with_master(config, root, given, progress)
    teacher = model if isinstance(model, nn.Module) else config.model
    return optimize(
        teacher,
        data=data,
        target=target,
        budget=budget,
        run=root,
        progress=progress,
        **options | {"search": "design", "master": config.master},
    )


def with_master(config: Config, root: Path, data: Data | None = None, progress: Progress | None = None) -> Config:
    """Return the configuration of a design with its teacher: a MasterNet without weights is trained in the run.

    It has a run of its own in the folder ``master``, and goes on there after a stop.

    Raises:
        UsageError: the structure cannot be read, or there are no data to train on.
    """
    if not config.model.startswith(_PREFIX):
        named = config.arch if config.arch is not None and config.arch.startswith(_PREFIX) else None
        if config.master is None and named is None:
            raise UsageError("no MasterNet is given to design from; give --master genet:cifar, or a structure's text")
        return config.model_copy(update={"search": "design", "master": config.master or named})
    if config.master is not None:
        raise UsageError(f"both {config.model} and --master {config.master} name a MasterNet; give one of them")
    structure = Structure.parse(config.model.removeprefix(_PREFIX))
    network, alone, materials = _untrained(config, structure, data)
    with RunStore(root):  # the folder is a run from now on, whatever happens
        pass
    with RunStore(root / FOLDER) as store:
        context = session.make_context(alone, materials, store, progress)
        context = build_pipeline(alone, ("capture", "master")).run(context)
        network.load_state_dict(master_of(context)[1])
        file = store.path(NETWORK)
        if not file.is_file():
            save(network, file, example_inputs=context.example_inputs)
    return _around(config, file, structure)


def plan_master(config: Config, root: Path, folder: Path) -> Config:
    """Return the configuration as ``with_master`` does, with nothing trained and nothing written in ``root``.

    Where the run has no trained MasterNet yet, one without training stands for it in ``folder``.
    """
    if not config.model.startswith(_PREFIX) or config.master is not None:
        return with_master(config, root)
    structure, file = Structure.parse(config.model.removeprefix(_PREFIX)), root / FOLDER / NETWORK
    if file.is_file():
        return _around(config, file, structure)
    network, alone, materials = _untrained(config, structure, None)
    save(network, folder / NETWORK, example_inputs=materials.example_inputs)
    return _around(config.model_copy(update={"passes": alone.passes}), folder / NETWORK, structure)


def _untrained(
    config: Config, structure: Structure, data: Data | None
) -> tuple[SuperBlockNetwork, Config, session.Materials]:
    """Return the MasterNet before its training, how it is trained, and what it is trained with."""
    if data is None:
        if config.data is None:
            raise UsageError("design needs data; give --data digits, cifar10:DIR, imagefolder:DIR or module:function")
        data = load_data(config, nn.Identity())
    channels = sample(data, "train", 0)[0].shape[0]
    network = fresh(structure, label_range(data)[1] + 1, channels, config.seed)
    passes = merge(config.passes, {"master": {"anew": True, "distillation": 0.0}})  # on labels alone
    alone = config.model_copy(update={"master": str(structure), "passes": passes, "budget": None, "limits": ()})
    return network, alone, session.load_materials(alone, model=network, data=data)


def _around(config: Config, file: Path, structure: Structure) -> Config:
    changes = {"model": str(file.absolute()), "arch": None, "master": str(structure), "search": "design"}
    return config.model_copy(update=changes)
