"""A student shares weights with its teacher, and nothing that is registered on it later."""

from __future__ import annotations

import torch
from hant.transformer.tools.submodules import with_submodules
from torch import nn


def test_what_is_registered_on_the_changed_network_is_not_the_originals() -> None:
    teacher = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 2))
    student = with_submodules(teacher, {"0.1": nn.Identity()})
    handles = [module.register_forward_hook(lambda *_: None) for module in (student, student.get_submodule("0"))]
    student.register_buffer("count", torch.zeros(1))
    student.register_parameter("scale", nn.Parameter(torch.ones(1)))
    student.add_module("tail", nn.ReLU())
    assert not teacher._forward_hooks
    assert not teacher.get_submodule("0")._forward_hooks
    assert [name for name, _ in teacher.named_children()] == ["0", "1"]
    assert {"count", "scale"}.isdisjoint({*teacher.state_dict()})
    assert len(handles) == 2
    assert student.get_parameter("1.weight") is teacher.get_parameter("1.weight")
