"""One pass a file; the algorithm in free functions beside it."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from ..transformer.plugins import registered

if TYPE_CHECKING:
    from .baselines.greedy import GreedyPass as GreedyPass
    from .baselines.ilp import IlpPass as IlpPass
    from .baselines.random_search import RandomPass as RandomPass
    from .baselines.reinforce import ReinforcePass as ReinforcePass
    from .baselines.snas import SnasPass as SnasPass
    from .candidates import CandidatesPass as CandidatesPass
    from .capture import CapturePass as CapturePass
    from .export import ExportPass as ExportPass
    from .figures.run import FiguresPass as FiguresPass
    from .finetune import FinetunePass as FinetunePass
    from .import_latencies import ImportPass as ImportPass
    from .kit import KitPass as KitPass
    from .pareto import ParetoPass as ParetoPass
    from .pretrain import PretrainPass as PretrainPass
    from .profile import ProfilePass as ProfilePass
    from .proxy import ProxyPass as ProxyPass
    from .rank import RankPass as RankPass
    from .report import ReportPass as ReportPass
    from .score import ScorePass as ScorePass
    from .select import SelectPass as SelectPass
    from .verify import VerifyPass as VerifyPass


def __getattr__(name: str) -> Any:
    """Import a pass of hant's own by the name of its class, on its first use."""
    point = _classes().get(name)
    if point is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = point.load()
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_classes()})


def _classes() -> dict[str, EntryPoint]:
    """Return the entry points of hant's own passes by the name of the class."""
    return {
        point.attr: point for point in registered("hant.passes").values() if point.module.startswith(f"{__name__}.")
    }
