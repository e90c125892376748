from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hant.backends.pytorch.backend import PyTorchBackend
from hant.backends.targets.load import load_target
from hant.passes.designing.records import WidthRecord
from hant.passes.designing.widths import WidthsPass
from hant.transformer.contracts.context import Context
from hant.transformer.contracts.timing import Protocol
from hant.transformer.runs.store import RunStore

MakeContext = Callable[..., Context]


@pytest.mark.slow
def test_on_a_gpu_full_convolutions_win_below_a_hundred_channels_and_no_bottleneck_without_a_neck_does(
    make_context: MakeContext, tmp_path: Path
) -> None:
    target = load_target("v100-torch").model_copy(update={"batch_size": 64})
    with RunStore(tmp_path / "run") as store:
        context = replace(make_context(store), target=target, backend=PyTorchBackend())
        if context.backend.unavailable(target) is None:
            pytest.skip("the absent device is here")
        made = WidthsPass().run(context)
        ms = {(record.block, record.width): record.ms for record in store.all(WidthRecord).values()}
        assert all(record.estimated for record in store.all(WidthRecord).values())
    best = {
        width: min(value for (block, w), value in ms.items() if w == width and block != "xx")
        for width in (32, 64, 128, 256)
    }
    assert [ms["xx", width] < best[width] for width in best] == [True, True, False, False]
    assert all(ms["bl r 1", width] > ms["xx", width] for width in best)
    assert made.notes[0].startswith("32 channels: xx is fastest, ~")
    assert (tmp_path / "run" / made.notes[-1]).is_file()


@pytest.mark.slow
def test_here_they_are_measured_once(make_context: MakeContext, tmp_path: Path) -> None:
    quick = Protocol(warmup_seconds=0.0, rounds=2, max_rounds=2, min_sample_ms=0.0)
    with RunStore(tmp_path / "run") as store:
        context = make_context(store)
        context = replace(context, target=context.target.model_copy(update={"protocol": quick}))
        WidthsPass(widths=(8,), size=8).run(context)
        found = store.all(WidthRecord)
        WidthsPass(widths=(8,), size=8).run(context)
        assert store.all(WidthRecord) == found
        assert len(found) == 9
        assert not any(record.estimated for record in found.values())
