"""A network as plain data: a tree of modules that names nothing but listed layers and functions of torch.

Three kinds of module: a *layer* of torch.nn with its constructor arguments; a *container* (Sequential, ModuleList,
ModuleDict, or a bare Module) with children; and every other module as its list of *nodes*, with its children,
parameters and buffers under the paths they had, so that the keys of a state dict survive.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import torch
from torch import fx, nn

from ...errors import CaptureError, LoadError
from ...ir.allowed import ATTRIBUTES, METHODS, function_of, name_of
from .layers import is_plain, layer_classes, layer_from_json, layer_to_json
from .values import from_json, to_json

CONTAINERS: dict[str, type[nn.Module]] = {
    "Sequential": nn.Sequential,
    "ModuleList": nn.ModuleList,
    "ModuleDict": nn.ModuleDict,
    "Module": nn.Module,
}
_NAME = re.compile(r"\w[\w\-]*\Z")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_DEEPEST = 100
"""Nested modules that are read; Python's own stack ends soon after."""


def network_to_json(module: nn.Module, path: str = "") -> dict[str, Any]:
    """Return the data of a network made of layers, containers and GraphModules.

    Raises:
        CaptureError: a module or an operation that is on no list, with its path.
    """
    try:
        if not is_plain(module):
            raise CaptureError(f"a {type(module).__name__} with hooks or a forward of its own cannot be saved as data")
        if isinstance(module, fx.GraphModule):
            return _graph_to_json(module, path)
        if type(module).__name__ in CONTAINERS and type(module) is CONTAINERS[type(module).__name__]:
            return {"container": type(module).__name__, "children": _children_to_json(module, path)}
        return layer_to_json(module)
    except CaptureError as error:
        if path and not str(error).startswith("module "):
            raise CaptureError(f"module {path}: {error}") from error
        raise


def _children_to_json(module: nn.Module, path: str) -> dict[str, Any]:
    children = {name: child for name, child in module._modules.items() if child is not None}  # one may be there twice
    return {name: network_to_json(child, f"{path}.{name}".lstrip(".")) for name, child in children.items()}


def _graph_to_json(module: fx.GraphModule, path: str) -> dict[str, Any]:
    def tensors(items: Any) -> dict[str, Any]:
        return {name: [list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in items}

    return {
        "class": type(module).__name__,
        "children": _children_to_json(module, path),
        "parameters": tensors(module.named_parameters(recurse=False)),
        "buffers": tensors(module.named_buffers(recurse=False)),
        "nodes": [_node_to_json(node) for node in module.graph.nodes],
    }


def _node_to_json(node: fx.Node) -> list[Any]:
    target: Any = node.target
    if node.op == "call_function":
        target = name_of(node.target)
        if target is None:
            name = torch.overrides.resolve_name(node.target) or getattr(node.target, "__qualname__", str(node.target))
            raise CaptureError(f"the function {name} is not among those that a network file may name")
    elif node.op == "call_method" and target not in METHODS:
        raise CaptureError(f"the tensor method {target!r} is not among those that a network file may name")
    args = [to_json(arg) for arg in node.args]
    kwargs = {key: to_json(value) for key, value in node.kwargs.items()}
    return [node.name, node.op, target, args, kwargs]


def network_from_json(data: Any, depth: int = 0) -> nn.Module:
    """Build the network on the meta device, without running anything that the data name.

    Raises:
        LoadError: anything that is not on the lists, by name.
    """
    if not isinstance(data, dict) or depth > _DEEPEST:
        raise LoadError("the network's description is not a tree of modules")
    if "layer" in data:
        return layer_from_json(data)
    if "container" in data:
        kind = data["container"]
        if kind not in CONTAINERS:
            raise LoadError(f"the file names the container {str(kind)[:60]!r}; known: {', '.join(CONTAINERS)}")
        return _add_children(CONTAINERS[kind](), data, depth)
    if "nodes" in data:
        return _graph_from_json(data, depth)
    raise LoadError(f"the file describes a module that is no layer, container or list of nodes: {sorted(data)[:4]}")


def _add_children(module: nn.Module, data: dict[str, Any], depth: int) -> nn.Module:
    children = data.get("children", {})
    if not isinstance(children, dict):
        raise LoadError("the children of a module are not a mapping")
    for name, child in children.items():
        _named(name)
        try:
            module.add_module(name, network_from_json(child, depth + 1))
        except (KeyError, TypeError) as error:
            raise LoadError(f"the file gives a module the child {name!r}, a name it cannot have") from error
    return module


def _graph_from_json(data: dict[str, Any], depth: int) -> fx.GraphModule:
    root = _add_children(nn.Module(), data, depth)
    for kind in ("parameters", "buffers"):
        for name, entry in data.get(kind, {}).items():
            _add_tensor(root, kind, name, entry)
    graph = _read_nodes(data["nodes"], root)
    class_name = str(data.get("class", "GraphModule"))
    if not class_name.isidentifier():
        raise LoadError(f"the file gives a module the class name {class_name[:60]!r}")
    return assemble(root, graph, class_name)


def assemble(root: nn.Module, graph: fx.Graph, class_name: str) -> fx.GraphModule:
    """Return a GraphModule that runs ``graph`` on ``root``'s own children, parameters and buffers, in their order."""
    made = fx.GraphModule(root, graph, class_name)
    for kind in ("_modules", "_parameters", "_buffers"):
        made.__dict__[kind] = root.__dict__[kind]
    made.training = root.training
    return made


def _add_tensor(root: nn.Module, kind: str, name: str, entry: Any) -> None:
    _named(name)
    try:
        shape, type_name = entry
        dtype = getattr(torch, type_name)
        assert isinstance(dtype, torch.dtype)
        tensor = torch.empty([int(size) for size in shape], dtype=dtype, device="meta")
        if kind == "parameters":
            root.register_parameter(name, nn.Parameter(tensor, requires_grad=dtype.is_floating_point))
        else:
            root.register_buffer(name, tensor)
    except Exception as error:  # any malformed entry
        raise LoadError(f"cannot read the tensor {name!r} of the file: {str(entry)[:80]}") from error


def _named(name: Any) -> None:
    """Refuse a name that is no word of letters, digits and _ of any script, as Python writes it in generated code."""
    if not isinstance(name, str) or not _NAME.match(name) or unicodedata.normalize("NFKC", name) != name:
        raise LoadError(f"the file names a module or tensor {str(name)[:60]!r}; names are letters, digits and _")


def _read_nodes(nodes: Any, root: nn.Module) -> fx.Graph:
    graph, known = fx.Graph(), dict[str, fx.Node]()

    def find(name: str) -> fx.Node:
        if name not in known:
            raise LoadError(f"the file reads the value {name[:60]!r} before it is made")
        return known[name]

    if not isinstance(nodes, list) or not nodes:
        raise LoadError("a module of the file has no nodes")
    for entry in nodes:
        if not (
            isinstance(entry, list) and len(entry) == 5 and isinstance(entry[3], list) and isinstance(entry[4], dict)
        ):
            raise LoadError(f"cannot read the node {str(entry)[:80]}")
        name, op, target, args, kwargs = entry
        if not isinstance(name, str) or not _IDENTIFIER.match(name) or not all(_IDENTIFIER.match(k) for k in kwargs):
            raise LoadError(f"the file gives a value the name {str(name)[:60]!r}")
        values = tuple(from_json(arg, find) for arg in args)
        keywords = {key: from_json(value, find) for key, value in kwargs.items()}
        known[name] = graph.create_node(op, _target(op, target, values, root), values, keywords, name)
    if nodes[-1][1] != "output":
        raise LoadError("a module of the file returns nothing")
    return graph


def _target(op: Any, target: Any, args: tuple[Any, ...], root: nn.Module) -> Any:
    if op == "call_function":
        return listed_function(target, args)
    if op == "call_method":
        return listed_method(target)
    if op in ("call_module", "get_attr"):
        return own_path(op, target, root)
    if op in ("placeholder", "output") and isinstance(target, str) and _IDENTIFIER.match(target):
        return target
    raise LoadError(f"the file has a node of kind {str(op)[:60]!r} with target {str(target)[:60]!r}")


def listed_function(target: Any, args: tuple[Any, ...]) -> Any:
    """Return the function that a network's file or text calls on ``args``.

    Raises:
        LoadError: it is not on the list, or reads an attribute that is not.
    """
    function = function_of(target)
    if function is None:
        raise LoadError(f"the file calls the function {str(target)[:80]!r}, which is not on the allowed list")
    if function is getattr and (len(args) != 2 or not isinstance(args[1], str) or args[1] not in ATTRIBUTES):
        raise LoadError(f"the file reads the attribute {str(args[1:])[:60]}, which is not on the allowed list")
    return function


def listed_method(target: Any) -> str:
    """Return the tensor method that a network's file or text calls.

    Raises:
        LoadError: it is not on the list.
    """
    if not isinstance(target, str) or target not in METHODS:
        raise LoadError(f"the file calls the method {str(target)[:80]!r}, which is not on the allowed list")
    return target


def own_path(op: str, target: Any, root: nn.Module) -> str:
    """Return a path that leads to a module or tensor of ``root`` and to nothing else."""
    if not isinstance(target, str):
        raise LoadError(f"the file refers to {str(target)[:60]!r}, which is no path")
    *way, last = target.split(".")
    owner: nn.Module | None = root
    for part in way:
        owner = owner._modules.get(part) if owner is not None else None
    tensors = {**owner._parameters, **owner._buffers} if owner is not None else {}
    held = owner is not None and (last in owner._modules if op == "call_module" else last in tensors)
    if not held and not (op == "get_attr" and target == "training"):
        raise LoadError(f"the file refers to {target[:60]!r}, which the module does not hold")
    return target


__all__ = ["CONTAINERS", "assemble", "layer_classes", "network_from_json", "network_to_json"]
