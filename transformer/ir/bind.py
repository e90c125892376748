"""From the text of a network to a module that runs it."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from ..files.described.serialize import assemble, listed_function, listed_method, own_path
from .argument_reader import named
from .text import KEYWORDS, Line, Named, NetworkText, Value


def bind(text: NetworkText, root: nn.Module, targets: dict[str, str] | None = None) -> fx.GraphModule:
    """Return a module that computes what the text says, on the submodules and tensors of ``root``.

    Args:
        text: the network.
        root: holds what the lines call.
        targets: block name -> path in ``root``, where they differ.

    Raises:
        LoadError: a function or method that is not on the lists, or a path that ``root`` does not have.
    """
    graph, nodes = fx.Graph(), dict[str, fx.Node]()
    operations = {keyword: op for op, keyword in KEYWORDS.items()} | {"block": "call_module"}

    def real(value: Any) -> Any:
        if isinstance(value, Value):
            return nodes[value.name]
        if isinstance(value, Named):
            return named(value.name)
        if isinstance(value, tuple | list):
            return type(value)(real(item) for item in value)
        if isinstance(value, dict):
            return {key: real(item) for key, item in value.items()}
        if isinstance(value, slice):
            return slice(real(value.start), real(value.stop), real(value.step))
        return value

    for line in text.lines:
        if line.keyword == "input":
            nodes[line.name] = graph.placeholder(line.name)
        elif line.keyword == "return":
            graph.output(real(line.args[0]))
        else:
            target = _target(line, root, targets or {})
            kwargs = {key: real(value) for key, value in line.kwargs}
            nodes[line.name] = graph.create_node(
                operations[line.keyword], target, real(line.args), kwargs, name=line.name
            )
    return assemble(root, graph, text.name)


def _target(line: Line, root: nn.Module, targets: dict[str, str]) -> Any:
    if line.keyword == "function":
        return listed_function(line.target, line.args)
    if line.keyword == "method":
        return listed_method(line.target)
    path = targets.get(line.target, line.target) if line.keyword == "block" else line.target
    return own_path("get_attr" if line.keyword == "attribute" else "call_module", path, root)
