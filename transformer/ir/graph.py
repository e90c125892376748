"""The captured network with its ordered blocks. Immutable to users; only the rewriter makes a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ...op_library.tensor_spec import TensorSpec
from ..errors import UsageError, nearest
from ..tools.submodules import with_submodules
from .block import Block, Diagnostic
from .text import network_text

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
    host: nn.Module | None = None
    """The larger model that the network is a part of, if it was captured as one."""
    path: str = ""
    """Where in ``host`` the network is."""
    rewriter: Callable[[Graph, Mapping[str, nn.Module]], Graph] = field(kw_only=True, repr=False)
    """Makes a new graph with other modules in the named blocks (``rewrite.rewriter.replace_blocks``)."""
    structure: str = ""
    """Hash of what the captured network computes, apart from its weights; replaced blocks do not change it."""

    def __str__(self) -> str:
        """The whole network as text, a line for each block and operation."""
        return network_text(self.module, self.blocks, self.inputs)

    @property
    def network(self) -> nn.Module:
        """The network to train, evaluate and export: the eager code where there is one, else ``module``.

        Eager code keeps branches on ``training`` and on shapes that one graph cannot hold.
        """
        return self.eager if self.eager is not None and self._is_current(self.eager) else self.module

    @property
    def whole(self) -> nn.Module:
        """The model that the network is a part of, with ``network`` in its place; all else is shared."""
        return self.network if self.host is None else with_submodules(self.host, {self.path: self.network})

    def _is_current(self, eager: nn.Module) -> bool:
        """Return whether ``eager`` runs the very blocks of this graph, and not those it was copied from."""
        own = dict(eager.named_modules(remove_duplicate=False))
        return all(own.get(b.target) is b.module for b in self.blocks if b.target in own)

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
        return self.rewriter(self, modules)

    @contextmanager
    def observe(self, observer: Observer) -> Iterator[None]:
        """Call ``observer(block, input, output)`` each time a block runs in ``module`` inside the ``with``.

        The tensors are the network's own, not copies; nothing in ``module`` overwrites them later.
        """
        handles = []
        for block in self.blocks:

            def hook(_: nn.Module, args: tuple[Any, ...], output: Any, block: Block = block) -> None:
                observer(block, args[0], output)

            handles.append(self.module.get_submodule(block.target).register_forward_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
