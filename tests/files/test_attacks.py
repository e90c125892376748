"""Files that try to run code, or to take the machine's memory, when they are read."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hant
import onnx
import pytest
import torch
from hant.transformer.errors import LoadError
from torch import nn

SOURCE = Path(hant.__file__).parent


class Gadget:
    """Unpickling calls ``function`` with ``arguments``."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def gadgets(canary: Path) -> dict[str, object]:
    touch = f"open({str(canary)!r}, 'w').close()"
    return {
        "system": Gadget(os.system, f"touch {canary}"),
        "exec": Gadget(exec, touch),
        "eval": Gadget(eval, touch),
        "popen": Gadget(subprocess.Popen, ["touch", str(canary)]),
        "getattr": Gadget(getattr, "text", "upper"),
        "import": Gadget(__import__, "antigravity"),
        "open": Gadget(open, str(canary), "w"),
        "torch.load": Gadget(torch.load, str(canary)),
        "hub": Gadget(torch.hub.load, "a/b", "c"),
        "pickle.loads": Gadget(pickle.loads, pickle.dumps(Gadget(os.system, f"touch {canary}"))),
        "module": nn.Linear(1, 1),
    }


def torch_zip(path: Path, payload: object) -> Path:
    torch.save({"state_dict": {"a": torch.ones(2)}, "x": payload}, path)
    return path


def torch_legacy(path: Path, payload: object) -> Path:
    torch.save({"a": torch.ones(2), "x": payload}, path, _use_new_zipfile_serialization=False)
    return path


def bare_pickle(path: Path, payload: object) -> Path:
    path.write_bytes(pickle.dumps(payload, protocol=2))
    return path


def inside_described(path: Path, payload: object) -> Path:
    torch.save({"format": "hant.network", "version": 1, "architecture": payload, "state_dict": {}}, path)
    return path


def second_pickle(path: Path, payload: object) -> Path:
    """A harmless first pickle, and the payload in one more that an archive reader may look at."""
    torch.save({"a": torch.ones(2)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/extra.pkl", pickle.dumps(payload))
    return path


WATCHED = ("import", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")
MAKERS = [torch_zip, torch_legacy, bare_pickle, inside_described, second_pickle]
NAMES = sorted(gadgets(Path()))


@pytest.mark.parametrize(
    ("maker", "suffix"),
    list(zip(MAKERS, [".pt", ".pth", ".pkl", ".ckpt", ".bin"], strict=True)),
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_pickled_code_is_named_and_not_run(maker: Callable[[Path, object], Path], suffix: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    seen: list[str] = []
    watching = False

    def watch(event: str, args: tuple[object, ...]) -> None:
        if watching and event in WATCHED:
            seen.append(f"{event} {args[0]}")

    with pytest.raises(LoadError):  # imports what reading needs, before imports are watched
        hant.load(maker(tmp_path / f"first{suffix}", nn.ReLU()))
    sys.addaudithook(watch)
    paths = [maker(tmp_path / f"{name}{suffix}", payload) for name, payload in gadgets(canary).items()]
    watching = True
    for path in paths:
        with pytest.raises(LoadError, match="would run code that it names") as caught:
            hant.load(path)
        assert "\n" not in str(caught.value)
        assert "--trust-model" in str(caught.value)
    watching = False
    assert not canary.exists()
    assert seen == []


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(300 * 2**20))


def nested_zip(path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", pickle.dumps(Gadget(os.system, "true")))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", inner.getvalue())


def overlapping(path: Path) -> None:
    """Many entries that share one stretch of the file."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(2**20))
        for i in range(300):
            archive.filelist.append(archive.filelist[1])
            archive.NameToInfo[f"archive/data/{i}"] = archive.filelist[1]


def stretched(path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path)


def huge_header(path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def endless_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")


def split_archive(path: Path) -> None:
    """An archive that says it goes on in another file."""
    torch.save({"a": torch.ones(2)}, path)
    content = path.read_bytes()
    path.write_bytes(content[:-22] + struct.pack("<4sLQL", b"PK\x06\x07", 1, 0, 2) + content[-22:])


def truncated(path: Path) -> None:
    torch.save(nn.Linear(64, 64).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-900])


def deep_pickle(path: Path) -> None:
    path.write_bytes(b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".")


def claimed_storage(path: Path) -> None:
    """A legacy file whose storage claims 400 GB."""
    content = io.BytesIO()
    torch.save({"a": torch.ones(7)}, content, _use_new_zipfile_serialization=False)
    path.write_bytes(content.getvalue().replace(b"K\x07", b"\x8a\x05\x00\x00\x00\x00\x19", 1))


def noise(path: Path) -> None:
    path.write_bytes(b"\x80\x02" + bytes(i * 37 % 251 for i in range(5000)))


def described(network: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        text = json.dumps({"format": "hant.network", "version": 1, "network": network})
        torch.save({"format": "hant.network", "version": 1, "architecture": text, "state_dict": {}}, path)

    return write


def nodes(*lines: list[object]) -> dict[str, object]:
    start = ["x", "placeholder", "x", [], {}]
    return {"class": "N", "nodes": [start, *lines, ["output", "output", "output", [{"node": "x"}], {}]]}


DESCRIBED = {
    "function": nodes(["y", "call_function", "os.system", ["true"], {}]),
    "builtin": nodes(["y", "call_function", "builtins.eval", ["1"], {}]),
    "getattr": nodes(["y", "call_function", "getattr", [{"node": "x"}, "__class__"], {}]),
    "method": nodes(["y", "call_method", "__reduce__", [{"node": "x"}], {}]),
    "method code": nodes(["y", "call_method", "a(); import os; os.system('true')", [{"node": "x"}], {}]),
    "module path": nodes(["y", "call_module", '"); import os; ("', [{"node": "x"}], {}]),
    "attribute": nodes(["y", "get_attr", "__class__.__mro__", [], {}]),
    "value name": nodes(["y = 1; import os #", "call_method", "relu", [{"node": "x"}], {}]),
    "keyword": nodes(["y", "call_method", "sum", [{"node": "x"}], {"dim=0); import os; (": 1}]),
    "class name": {**nodes(), "class": "N:\n import os"},
    "child name": {**nodes(), "children": {"a.b;c": {"layer": "ReLU", "arguments": {}}}},
    "forward child": {**nodes(), "children": {"forward": {"layer": "ReLU", "arguments": {}}}},
    "layer": {"layer": "os.system", "arguments": {}},
    "layer object": {"layer": {"a": 1}},
    "lazy layer": {"layer": "LazyLinear", "arguments": {"out_features": 3}},
    "layer argument": {"layer": "Linear", "arguments": {"in_features": 1, "out_features": 1, "device": "cuda"}},
    "huge layer": {"layer": "Linear", "arguments": {"in_features": 2**30, "out_features": 2**30}},
    "bad layer": {"layer": "Conv2d", "arguments": {"in_channels": "a"}},
    "container": {"container": "ParameterList", "children": {}},
    "list": [1, 2],
    "empty": {},
    "huge tensor": {**nodes(), "parameters": {"w": [[2**40, 2**20], "float32"]}},
    "odd dtype": {**nodes(), "parameters": {"w": [[1], "load"]}},
    "self reference": nodes(["y", "call_method", "relu", [{"node": "z"}], {}]),
    "huge number": nodes(["y", "call_function", "torch.zeros", [2**70], {}]),
    "unhashable": nodes(["y", "call_method", ["relu"], [], {}]),
    "unhashable function": nodes(["y", "call_function", ["relu"], [], {}]),
    "tag": nodes(["y", "call_method", "relu", [{"pickle": "abc"}], {}]),
}


def exported_with_pickle(path: Path) -> None:
    """An archive of torch.export whose sample inputs are a pickle that runs code."""
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), path)
    inner = io.BytesIO()
    torch.save({"x": Gadget(os.system, f"touch {path.with_name('canary')}")}, inner)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, inner.getvalue() if name.endswith("sample_inputs/model.pt") else content)


def onnx_model(op_type: str = "Relu", name: str = "node", domain: str = "") -> Any:
    node = onnx.helper.make_node(op_type, ["x", "w"] if op_type == "Add" else ["x"], ["y"], name=name, domain=domain)
    ends = [onnx.helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, [1, 4]) for end in "xy"]
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [4], [1.0] * 4)
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


def onnx_outside(location: str, length: int = 16, dims: int = 4) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        model = onnx_model("Add")
        (weight,) = model.graph.initializer
        weight.ClearField("float_data")
        weight.dims[0] = dims
        weight.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
            weight.external_data.add(key=key, value=value)
        path.write_bytes(model.SerializeToString())
        secret = path.parent.with_name("secret")
        secret.write_bytes(bytes(16))
        link = path.with_name("link")
        if not link.is_symlink():
            link.symlink_to(secret)
        path.with_name("small").write_bytes(bytes(16))

    write.__name__ = f"onnx_{re.sub('[^a-z]', '_', location)}_{length}_{dims}"
    return write


def onnx_huge(path: Path) -> None:
    model = onnx_model("Add")
    model.graph.initializer[0].dims[0] = 2**40
    path.write_bytes(model.SerializeToString())


def onnx_truncated(path: Path) -> None:
    path.write_bytes(onnx_model("Add").SerializeToString()[:-20])


def onnx_name(path: Path) -> None:
    path.write_bytes(onnx_model(name="A" * 9).SerializeToString().replace(b"A" * 9, b"\xff" * 9))


def onnx_noise(path: Path) -> None:
    path.write_bytes(bytes(i * 37 % 251 for i in range(5000)))


def onnx_operator(path: Path) -> None:
    path.write_bytes(onnx_model("PyOp", domain="ai.onnx.contrib").SerializeToString())


ONNX = (
    onnx_outside("../secret"),
    onnx_outside("/etc/passwd"),
    onnx_outside("link"),
    onnx_outside("nothing"),
    onnx_outside("small", 2**40, 2**38),
    onnx_outside("small", 2**20, 4),
    onnx_huge,
    onnx_truncated,
    onnx_noise,
    onnx_name,
    onnx_operator,
)
HEADERS = (huge_header, endless_header)
LIARS = (bomb, nested_zip, overlapping, stretched, split_archive, truncated, deep_pickle, claimed_storage, noise)


def test_files_that_lie_about_their_size_are_refused(tmp_path: Path) -> None:
    """Load each in a process that watches its memory and time."""
    files = [tmp_path / f"{make.__name__}.pt" for make in LIARS]
    files += [tmp_path / f"{make.__name__}.safetensors" for make in HEADERS]
    files += [tmp_path / f"{make.__name__}.onnx" for make in ONNX]
    for path, make in zip(files, [*LIARS, *HEADERS, *ONNX], strict=True):
        make(path)
    script = f"""
        import json, resource, time
        import onnx2torch.converter, onnx, torch, hant
        from hant.transformer.files import load
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        for path in {[str(path) for path in files]!r}:
            before, start = peak(), time.process_time()
            try:
                hant.load(path)
                kind = message = "loaded"
            except hant.HantError as error:
                kind, message = type(error).__name__, str(error)
            print(json.dumps([path, kind, peak() - before, time.process_time() - start, message]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    for path, kind, mebibytes, seconds, message in map(json.loads, done.stdout.splitlines()):
        assert kind == "LoadError", path
        assert mebibytes < 256, path
        assert seconds < 1, path
        assert "\n" not in message, path


def test_a_pickle_in_an_exported_archive_is_named_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "p.pt2"
    exported_with_pickle(path)
    with pytest.raises(LoadError, match=r"its pickles name posix\.system\); give --trust-model") as caught:
        hant.load(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "canary").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_torchscript_program_is_called_what_it_is(tmp_path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "net.pt")  # type: ignore[no-untyped-call]
    with pytest.raises(LoadError, match=r"net\.pt is a TorchScript program, which holds code; .* then give --arch"):
        hant.load(tmp_path / "net.pt")


def test_names_in_an_onnx_file_do_not_reach_the_code_that_is_made_of_it(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    name = f'a"); open({str(canary)!r}, "w"); ("'
    model = onnx_model(name=name)
    for entry in (model.graph.input[0], model.graph.output[0]):
        entry.name = f"{entry.name}\n    open({str(canary)!r}, 'w')"
    model.graph.node[0].input[0], model.graph.node[0].output[0] = model.graph.input[0].name, model.graph.output[0].name
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    network = hant.load(tmp_path / "x.onnx")
    assert torch.equal(network(torch.tensor([[-1.0, 2.0, -3.0, 4.0]])), torch.tensor([[0.0, 2.0, 0.0, 4.0]]))
    assert not canary.exists()


def test_descriptions_name_nothing_but_what_is_listed(tmp_path: Path) -> None:
    for name, network in DESCRIBED.items():
        described(network)(tmp_path / "x.pt")
        start = time.process_time()
        with pytest.raises(LoadError) as caught:
            hant.load(tmp_path / "x.pt")
        assert "\n" not in str(caught.value).split("\n  missing")[0], name
        assert time.process_time() - start < 1, name


def test_a_deep_description_is_refused(tmp_path: Path) -> None:
    text = (
        '{"format": "hant.network", "version": 1, "network": ' + '{"container": "Sequential", "children": {"a": ' * 5000
    )
    torch.save({"format": "hant.network", "version": 1, "architecture": text, "state_dict": {}}, tmp_path / "x.pt")
    with pytest.raises(LoadError, match="no readable description"):
        hant.load(tmp_path / "x.pt")
    network: object = {"layer": "ReLU"}
    for _ in range(120):
        network = {"container": "Sequential", "children": {"a": network}}
    described(network)(tmp_path / "y.pt")
    with pytest.raises(LoadError, match="not a tree of modules"):
        hant.load(tmp_path / "y.pt")


def test_no_code_falls_back_from_safe_to_unsafe_reading() -> None:
    unsafe = re.compile(
        r"weights_only\s*=\s*False|pickle\.loads?\(|torch\.export\.load|torch\.jit\.load|Unpickler|\beval\("
    )
    found = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if not {"tests", ".venv", "examples", "build"} & set(path.relative_to(SOURCE).parts)
        for line in path.read_text().splitlines()
        if unsafe.search(line) and not re.search(r"\.eval\(\)|model\.eval|docstring", line)
    }
    arrays_only = "transformer/data/cifar.py"  # an unpickler that refuses every name but arrays
    own_files = "backends/pytorch/run.py"  # what the backend itself has lowered; never a model that a user names
    assert found <= {"transformer/files/trusted.py", arrays_only, own_files}
    loading = (SOURCE / "transformer/files/load.py").read_text()
    assert re.findall(r"\n( *)(?:if trust:|trusted = load_trusted)", loading) == ["    ", "        "]
