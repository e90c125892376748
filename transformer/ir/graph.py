"""The captured network with its ordered blocks. Immutable to users; only the rewriter makes a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...op_library.tensor_spec import TensorSpec
from ..errors import UsageError, nearest
from .block import Block, Diagnostic

Observer = Callable[[Block, Tensor, Tensor], None]


@dataclass(frozen=True, eq=False)
class Graph:
    """A network whose blocks are submodules that can be observed and replaced."""

    module: nn.Module
    """Runs the whole network; every block is the submodule ``block.target``. Shares the teacher's parameters."""
    blocks: tuple[Block, ...]
    """In the order of execution."""
    inputs: tuple[TensorSpec, ...]
    """Contracts of the network's tensor inputs."""
    diagnostics: tuple[Diagnostic, ...] = ()
    macs: int = 0
    """Multiply-accumulates of the whole network for one sample."""
    parameters: int = 0
    eager: nn.Module | None = None
    """The network as ordinary module code, where every replaced block is a plain submodule of it."""

    @property
    def network(self) -> nn.Module:
        """The network to train, evaluate and export: the eager code where there is one, else ``module``.

        Eager code keeps branches on ``training`` and on shapes that one graph cannot hold.
        """
        return self.module if self.eager is None else self.eager

    def block(self, name: str) -> Block:
        """Return the block called ``name``."""
        for block in self.blocks:
            if block.name == name:
                return block
        raise UsageError(f"no block {name!r}{nearest(name, (b.name for b in self.blocks))}")

    @property
    def replaceable(self) -> tuple[Block, ...]:
        """The blocks that selection decides on, in order."""
        return tuple(b for b in self.blocks if b.replaceable)

    def replace(self, modules: Mapping[str, nn.Module]) -> Graph:
        """Return a new graph in which the named blocks run the given modules; this one is unchanged.

        Modules of untouched parts are shared, not copied.
        """
        from ..rewrite.rewriter import replace_blocks

        return replace_blocks(self, modules)

    @contextmanager
    def observe(self, observer: Observer) -> Iterator[None]:
        """Call ``observer(block, input, output)`` each time a block runs in ``module`` inside the ``with``.

        The tensors are the network's own, not copies. Layers do not work in place meanwhile, so that nothing
        overwrites them; the graph's values are the same either way.
        """
        handles = []
        for block in self.blocks:

            def hook(_: nn.Module, args: tuple[Any, ...], output: Any, block: Block = block) -> None:
                observer(block, args[0], output)

            handles.append(self.module.get_submodule(block.target).register_forward_hook(hook))
        in_place = [m for m in self.module.modules() if getattr(m, "inplace", False) is True]
        try:
            for layer in in_place:
                vars(layer)["inplace"] = False
            yield
        finally:
            for layer in in_place:
                vars(layer)["inplace"] = True
            for handle in handles:
                handle.remove()
