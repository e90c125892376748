from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hant.transformer.capture.trace import trace
from hant.transformer.contracts.context import Context
from hant.transformer.errors import UsageError
from hant.transformer.pipeline.watch import check_blocks, watch
from torch import nn


def test_a_network_without_a_block_is_told_with_the_reason() -> None:
    graph = trace(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), torch.zeros(2, 1, 4, 4))
    with pytest.raises(UsageError, match=r"^no block to replace was found: .+; hant-opt inspect MODEL shows all"):
        check_blocks(graph)


def test_the_listener_looks_after_capture(context: Context) -> None:
    bare = trace(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), torch.zeros(2, 1, 4, 4))
    with pytest.raises(UsageError, match="no block to replace was found"):
        watch(None)("capture", replace(context, graph=bare))
    watch(None)("score", replace(context, graph=bare))
    watch(None)("profile", replace(context, graph=bare))
