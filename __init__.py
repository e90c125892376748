"""hant: a compiler for trained vision networks.

The facade is lazy: importing ``hant`` imports nothing heavy, so ``hant-opt --help`` starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# public name -> module that defines it
_PUBLIC = {
    "AccuracyReport": ".passes.reporting.schema",
    "Backend": ".transformer.contracts.backend",
    "Block": ".transformer.ir.block",
    "Budget": ".transformer.contracts.budget",
    "Context": ".transformer.contracts.context",
    "Data": ".transformer.contracts.data",
    "Graph": ".transformer.ir.graph",
    "HantError": ".transformer.errors",
    "LatencyReport": ".passes.reporting.schema",
    "Metric": ".transformer.contracts.task",
    "OpSpec": ".op_library.op_spec",
    "Pass": ".transformer.contracts.pass_",
    "PassResult": ".transformer.contracts.pass_",
    "Pipeline": ".transformer.pipeline.pipeline",
    "Report": ".passes.reporting.schema",
    "Result": ".transformer.pipeline.optimize",
    "RunStore": ".transformer.runs.store",
    "Runner": ".transformer.contracts.backend",
    "Selection": ".passes.selecting.solver.problem",
    "SelectionProblem": ".passes.selecting.solver.problem",
    "Target": ".transformer.contracts.target",
    "Task": ".transformer.contracts.task",
    "TensorSpec": ".op_library.tensor_spec",
    "Timing": ".transformer.contracts.timing",
    "design": ".transformer.pipeline.design",
    "load": ".transformer.files.load",
    "load_target": ".backends.targets.load",
    "measure": ".transformer.pipeline.measure",
    "once_for_all": ".transformer.pipeline.once_for_all",
    "open_run": ".transformer.pipeline.optimize",
    "optimize": ".transformer.pipeline.optimize",
    "pool": ".op_library.pools",
    "save": ".transformer.files.save",
    "solve": ".passes.selecting.solver.solve",
    "trace": ".transformer.capture.trace",
}

__all__ = ["__version__", *sorted(_PUBLIC)]

if TYPE_CHECKING:
    from .backends.targets.load import load_target as load_target
    from .op_library.op_spec import OpSpec as OpSpec
    from .op_library.pools import pool as pool
    from .op_library.tensor_spec import TensorSpec as TensorSpec
    from .passes.reporting.schema import AccuracyReport as AccuracyReport
    from .passes.reporting.schema import LatencyReport as LatencyReport
    from .passes.reporting.schema import Report as Report
    from .passes.selecting.solver.problem import Selection as Selection
    from .passes.selecting.solver.problem import SelectionProblem as SelectionProblem
    from .passes.selecting.solver.solve import solve as solve
    from .transformer.capture.trace import trace as trace
    from .transformer.contracts.backend import Backend as Backend
    from .transformer.contracts.backend import Runner as Runner
    from .transformer.contracts.budget import Budget as Budget
    from .transformer.contracts.context import Context as Context
    from .transformer.contracts.data import Data as Data
    from .transformer.contracts.pass_ import Pass as Pass
    from .transformer.contracts.pass_ import PassResult as PassResult
    from .transformer.contracts.target import Target as Target
    from .transformer.contracts.task import Metric as Metric
    from .transformer.contracts.task import Task as Task
    from .transformer.contracts.timing import Timing as Timing
    from .transformer.errors import HantError as HantError
    from .transformer.files.load import load as load
    from .transformer.files.save import save as save
    from .transformer.ir.block import Block as Block
    from .transformer.ir.graph import Graph as Graph
    from .transformer.pipeline.design import design as design
    from .transformer.pipeline.measure import measure as measure
    from .transformer.pipeline.once_for_all import once_for_all as once_for_all
    from .transformer.pipeline.optimize import Result as Result
    from .transformer.pipeline.optimize import open_run as open_run
    from .transformer.pipeline.optimize import optimize as optimize
    from .transformer.pipeline.pipeline import Pipeline as Pipeline
    from .transformer.runs.store import RunStore as RunStore


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'hant' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
