"""Recording one execution of a network, operation by operation."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ....op_library.cost import MacCounter
from ...errors import CaptureError
from ...tools.nested import leaves, map_leaves
from .functional import VALUE_READERS, as_function, assigning, out_of_place
from .memory import Memory, Write
from .steps import InputDevice, ModuleCall, Ref, Step, StepKind
from .surroundings import LeafPolicy, normalised, owned_tensors, source_line

_UNRECORDED = frozenset({"__set__", "_assert", "requires_grad_", "_has_torch_function", "register_hook"})


class Recorder(TorchFunctionMode):
    """Logs every torch function that returns tensors and every call of a leaf module.

    Python integers stay integers, so ``len``, ``int`` and ``isinstance`` in the model's code work as always. A value is
    known by the identity of its tensor, so recorded tensors are kept alive until the recording ends.
    """

    def __init__(
        self, model: nn.Module, is_leaf: LeafPolicy, counter: MacCounter, device: torch.device, by_place: bool = False
    ) -> None:
        """``by_place``: a module that is held in several places goes by that of its caller, else by the first."""
        super().__init__()
        self.model = model
        self.is_leaf = is_leaf
        self.counter = counter
        self.device = device
        self.steps: list[Step] = []
        self.calls: dict[str, ModuleCall] = {}
        self.constants: dict[str, Tensor] = {}
        self.notes: list[tuple[str, str, str]] = []
        self.memory = Memory()
        self._by_place = by_place
        self._paths: dict[nn.Module, list[str]] = {}
        for name, module in model.named_modules(remove_duplicate=False):
            self._paths.setdefault(module, []).append(name)
        self._attributes = owned_tensors(model)
        self._value_of: dict[int, int] = {}
        self._alive: list[Tensor] = []
        self._scope: list[str] = []
        self._times: Counter[str] = Counter()
        self.failed_in: str | None = None
        """Path of the innermost module that raised."""
        self._quiet = 0
        self._from_input: set[int] = set()

    # values

    def enter_input(self, position: int, tensor: Tensor) -> int:
        """Make ``tensor`` the network's input number ``position``."""
        step = self._add(StepKind.INPUT, position, (), {}, tensor)
        self._from_input.add(step.index)
        self._bind(tensor, step)
        return step.index

    def referred(self, value: Any) -> Any:
        """Return ``value`` with its tensors replaced by references to the steps that made them."""

        def refer(leaf: Any) -> Any:
            if isinstance(leaf, Tensor):
                return self._ref(leaf)
            if isinstance(leaf, torch.device) and leaf == self.device:
                return InputDevice()
            return leaf

        return map_leaves(value, refer)

    def _ref(self, tensor: Tensor) -> Ref:
        index = self._value_of.get(id(tensor))
        if index is None:
            name = self._attributes.get(id(tensor))
            if name is None:
                name = f"_constant{len(self.constants)}"
                self.constants[name] = tensor
            scope, self._scope = self._scope, []
            step = self._add(StepKind.ATTRIBUTE, name, (), {}, tensor)
            self._scope = scope
            self._bind(tensor, step)
            return Ref(step.index)
        self.memory.read(index, self._scope)
        return Ref(index)

    def _bind(self, tensor: Tensor, step: Step) -> None:
        self._value_of[id(tensor)] = step.index
        self._alive.append(tensor)
        self.memory.made(step.index, tensor)

    def _bind_result(self, result: Any, step: Step) -> None:
        """Give every tensor of a result its step; items of tuples and dicts get one ``getitem`` each."""
        if isinstance(result, Tensor):
            self._bind(result, step)
            return
        items = result.items() if isinstance(result, dict) else enumerate(result)
        for key, item in items:
            if any(isinstance(leaf, Tensor) for leaf in leaves(item)):
                part = self._add(StepKind.CALL, operator.getitem, (Ref(step.index), key), {}, item)
                self._bind_result(item, part)

    def _add(
        self, kind: StepKind, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, macs: int = 0
    ) -> Step:
        tensor = isinstance(result, Tensor)
        step = Step(
            index=len(self.steps),
            kind=kind,
            target=target,
            args=args,
            kwargs=kwargs,
            scope=tuple(self._scope),
            shape=tuple(result.shape) if tensor else None,
            dtype=result.dtype if tensor else None,
            source=source_line() if kind in (StepKind.CALL, StepKind.MODULE, StepKind.ASSIGN) else "",
            macs=macs,
        )
        self.steps.append(step)
        if any(index in self._from_input for index in step.refs()):
            self._from_input.add(step.index)
        return step

    # torch functions

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a torch function and log it."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self._quiet:
            result = normalised(func, args, kwargs)
            return func(*args, **kwargs) if result is None else result
        if name in _UNRECORDED:
            return func(*args, **kwargs)
        if name in VALUE_READERS:
            return self._read_value(func, name, args, kwargs)
        tensors = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        result, macs, written = self._run(func, args, kwargs, tensors)
        if not written and not any(isinstance(leaf, Tensor) for leaf in leaves(result)):
            return result  # a shape, a flag: no value of the graph
        given = self.referred(args), self.referred(kwargs)
        if written:
            return self._write(func, given, args, result, written, macs)
        result = self._fresh(result, tensors)
        target, own_args, own_kwargs = as_function(func, given, args, kwargs, result)
        step = self._add(StepKind.CALL, target, own_args, own_kwargs, result, macs)
        self._bind_result(result, step)
        return result

    def _run(
        self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[Tensor]
    ) -> tuple[Any, int, list[Tensor]]:
        """Run quietly; return the result, the MACs of the batch and the tensors that were written into."""
        versions = [tensor._version for tensor in tensors]
        before = self.counter.total
        with self.unrecorded():
            result = call(*args, **kwargs)
        written = [t for t, version in zip(tensors, versions, strict=True) if t._version != version]
        return result, self.counter.total - before, list({id(t): t for t in written}.values())

    def _fresh(self, result: Any, tensors: list[Tensor]) -> Any:
        """Give a value that is one of the arguments or of the model's own tensors an identity of its own."""
        old = {id(tensor) for tensor in tensors}

        def alias(leaf: Any) -> Any:
            if isinstance(leaf, Tensor) and (id(leaf) in old or id(leaf) in self._attributes):
                with self.unrecorded():
                    return torch.ops.aten.alias(leaf)
            return leaf

        return map_leaves(result, alias)

    def _write(
        self,
        func: Any,
        given: tuple[tuple[Any, ...], dict[str, Any]],
        args: tuple[Any, ...],
        result: Any,
        written: list[Tensor],
        macs: int,
    ) -> Any:
        """Log an in-place operation as the function that makes the new value."""
        tensor = written[0]
        index = self._value_of.get(id(tensor))
        ref = given[0][0] if given[0] else None
        if len(written) > 1 or tensor is not args[0] or not isinstance(ref, Ref) or index != ref.index:
            self.memory.unclear(Write(tuple(self._scope), getattr(func, "__name__", "a function"), source_line()))
            return result
        pure, own_args, own_kwargs = out_of_place(func, given)
        kind = StepKind.CALL if pure is not None else StepKind.ASSIGN
        step = self._add(kind, pure or assigning(func), own_args, own_kwargs, tensor, macs)
        self._wrote(tensor, step, ref.index)
        return result

    def _wrote(self, tensor: Tensor, step: Step, old: int) -> None:
        step.writes_into = old
        if self.steps[old].kind is StepKind.ATTRIBUTE:
            self.notes.append(
                (self._path(), f"writes into {self.steps[old].target!r}, which the graph does not", step.source)
            )
        step.contested = self.memory.overwritten(tensor, Write(step.scope, step.name, step.source))
        self._bind(tensor, step)

    def _read_value(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Let code read a tensor's numbers where they do not depend on the input."""
        ref = self._ref(args[0])
        if ref.index in self._from_input:
            raise CaptureError(
                f"module {self._path() or 'the network'} reads the values of a tensor in Python "
                f"({name}) at {source_line()}, so what it computes depends on the data and no one graph holds it; "
                "use torch.where or masks there, or exclude the module with --submodule"
            )
        self.notes.append((self._path(), f"the number read by {name} is kept as a constant", source_line()))
        return func(*args, **kwargs)

    # modules

    def call_module(self, call: Callable[..., Any], module: nn.Module, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Run a module through ``call``, its original ``__call__``; log it whole or log what it does."""
        if self._quiet or module not in self._paths:
            return call(module, *args, **kwargs)
        path = self._place(module)
        key = path if self._times[path] == 0 else f"{path}@{self._times[path]}"
        self._times[path] += 1
        tensors = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        leaf = path != "" and self.is_leaf(module, len(tensors))
        record = ModuleCall(key, path, module, self._scope[-1] if self._scope else None, leaf)
        self.calls[key] = record
        record.arguments, record.keywords = self.referred(args), self.referred(kwargs)
        self._scope.append(key)
        try:
            if leaf:
                return self._call_leaf(call, record, args, kwargs, tensors)
            result = call(module, *args, **kwargs)
            with self.unrecorded():
                record.result = self.referred(result)
            return result
        except Exception:
            self.failed_in = path if self.failed_in is None else self.failed_in
            raise
        finally:
            self._scope.pop()

    def _place(self, module: nn.Module) -> str:
        """Return the path that a call of ``module`` now goes by."""
        paths, caller = self._paths[module], self._path()
        if not self._by_place or len(paths) == 1:
            return paths[0]
        inside = [path for path in paths if caller == "" or path.startswith(f"{caller}.")]
        return min(inside or paths, key=lambda path: self._times[path])

    def _call_leaf(
        self, call: Callable[..., Any], record: ModuleCall, args: tuple[Any, ...], kwargs: Any, tensors: list[Tensor]
    ) -> Any:
        given = record.arguments, record.keywords
        result, macs, written = self._run(call, (record.module, *args), kwargs, tensors)
        if written and not (len(written) == 1 and result is written[0]):
            self.memory.unclear(Write(tuple(self._scope[:-1]), record.path, source_line()))
        elif not written:
            result = self._fresh(result, tensors)
        step = self._add(StepKind.MODULE, record.path, *given, result, macs)
        if written:
            self._wrote(written[0], step, self._value_of[id(written[0])])
        else:
            self._bind_result(result, step)
        record.result = self.referred(result)
        return result

    def note_function(self, name: str) -> None:
        """Note a custom autograd function, unless it runs inside a module that stays whole."""
        if not self._quiet:
            reason = (
                f"the backward of the custom autograd function {name} is not in the graph, only in the eager network"
            )
            self.notes.append((self._path(), reason, source_line()))

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Log nothing inside the ``with``."""
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1

    def _path(self) -> str:
        return self.calls[self._scope[-1]].path if self._scope else ""
