"""The passes, one room a subject; each stands in the file of its verb's name."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from ..transformer.plugins import registered

if TYPE_CHECKING:
    from .candidates.candidates import CandidatesPass as CandidatesPass
    from .capturing.capture import CapturePass as CapturePass
    from .delivering.export import ExportPass as ExportPass
    from .delivering.verify import VerifyPass as VerifyPass
    from .designing.design import DesignPass as DesignPass
    from .designing.gradient import GradientPass as GradientPass
    from .designing.master import MasterPass as MasterPass
    from .designing.perturb import PerturbPass as PerturbPass
    from .designing.spectrum import SpectrumPass as SpectrumPass
    from .designing.superblocks import SuperblocksPass as SuperblocksPass
    from .designing.train import TrainPass as TrainPass
    from .designing.widths import WidthsPass as WidthsPass
    from .finetuning.align import AlignPass as AlignPass
    from .finetuning.finetune import FinetunePass as FinetunePass
    from .latency.import_latencies import ImportPass as ImportPass
    from .latency.kits.kit import KitPass as KitPass
    from .latency.profile import ProfilePass as ProfilePass
    from .pretraining.pretrain import PretrainPass as PretrainPass
    from .ranking.rank import RankPass as RankPass
    from .reporting.figures.run import FiguresPass as FiguresPass
    from .reporting.report import ReportPass as ReportPass
    from .scoring.score import ScorePass as ScorePass
    from .searching.columns import ColumnsPass as ColumnsPass
    from .searching.greedy import GreedyPass as GreedyPass
    from .searching.ilp import IlpPass as IlpPass
    from .searching.prunet.prunet import BaselinePrunetPass as BaselinePrunetPass
    from .searching.prunet.prunet import PrunetPass as PrunetPass
    from .searching.prunet.scratch import ScratchPass as ScratchPass
    from .searching.random_search import RandomPass as RandomPass
    from .searching.reinforce import ReinforcePass as ReinforcePass
    from .searching.search import SearchPass as SearchPass
    from .searching.snas import SnasPass as SnasPass
    from .selecting.pareto import ParetoPass as ParetoPass
    from .selecting.proxy import ProxyPass as ProxyPass
    from .selecting.select import SelectPass as SelectPass
    from .sharing.choose import ChoosePass as ChoosePass
    from .sharing.extract import ExtractPass as ExtractPass
    from .sharing.shrink import ShrinkPass as ShrinkPass


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
