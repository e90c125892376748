"""Every string of every file that describes a network, replaced: a typed error or the right answer, and nothing runs.

Strings of the self-describing checkpoint (one file, or weights with a description beside them), of a training script's
checkpoint, and of an ONNX file; keys as well as values.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hant
import onnx
import pytest
import timm
import torch
from hant.transformer.errors import HantError, LoadError
from safetensors.torch import save_file
from torch import Tensor, nn

WATCHED = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "socket.connect",
    "socket.getaddrinfo",
)
seen: list[str] = []


def _watch(event: str, args: tuple[object, ...]) -> None:
    if event in WATCHED:
        seen.append(" ".join([event, *map(str, args[:1])]))


sys.addaudithook(_watch)


def payloads(folder: Path) -> list[str]:
    """What an attacker may write into a string. The file that some name leaves a canary when it is run."""
    touch = f"open({str(folder / 'canary')!r}, 'w').close()"
    (folder / "evil.py").write_text(f"{touch}\ndef make(*args, **kwargs):\n    pass\n")
    return [
        "os:system",
        "subprocess:check_output",
        f"{folder}/evil.py:make",
        "evil:make",
        "os.system",
        "builtins.eval",
        "timm:hf-hub:someone/model",
        f"timm:local-dir:{folder}",
        "timm:resnet18?pretrained=True",
        "torchvision:get_model",
        f"x'); {touch}; ('",
        f"x\n    {touch}",
        "__class__",
        "__reduce__",
        "forward",
        "../../secret",
        "http://localhost:9/x",
        "\x1b]0;x\x07",
        "",
        "9" * 400,
        "ﬁ",
    ]


def strings(data: Any) -> int:
    """Return how many strings, keys included, nested data hold."""
    if isinstance(data, dict):
        return sum(1 + strings(value) for value in data.values())
    return sum(map(strings, data)) if isinstance(data, list) else int(isinstance(data, str))


def replaced(data: Any, number: int, text: str) -> Any:
    """Return the data with the string of that number in another's place."""
    counter = iter(range(10**9))

    def walk(value: Any) -> Any:
        if isinstance(value, str):
            return text if next(counter) == number else value
        if isinstance(value, dict):
            return {walk(key): walk(item) for key, item in value.items()}
        return [walk(item) for item in value] if isinstance(value, list) else value

    return walk(copy.deepcopy(data))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.head(self.conv(x).to(torch.float32).relu().mean((2, 3)))
        return made


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def right_or_refused(load: Callable[[], nn.Module], expected: Tensor, images: Tensor) -> bool:
    """Return whether a file was refused; one that is read gives the right answer, or fails when it runs."""
    try:
        network = load()
    except HantError:
        return True
    try:
        made = network(images)
    except (RuntimeError, TypeError, AttributeError):  # a graph that reads a value in another way
        return True
    assert torch.equal(made, expected)
    return False


def files(
    folder: Path, model: nn.Module, choose: Callable[[list[str]], list[str]]
) -> Iterator[Callable[[], nn.Module]]:
    """Write each damaged file in turn; ``choose`` picks the payloads of one string."""
    texts, images = payloads(folder), torch.zeros(1, 3, 8, 8)
    hant.save(model, folder / "net.safetensors", images, selection={"a": "identity"}, metadata={"note": "x"})
    data = json.loads((folder / "net.json").read_text())
    named = {**data, "network": None, "arch": "timm:resnet18", "arch_kwargs": {"act_layer": "relu"}, "tied": {"a": "b"}}
    for form in (data, named):
        for number in range(strings(form)):
            for text in choose(texts):
                (folder / "net.json").write_text(json.dumps(replaced(form, number, text)))
                yield lambda: hant.load(folder / "net.safetensors")
    content = {
        "format": "hant.network",
        "version": 1,
        "architecture": json.dumps(data),
        "state_dict": model.state_dict(),
    }
    training = {"state_dict": model.state_dict(), "arch": "resnet18", "args": argparse.Namespace(model="resnet18")}
    for key in (*content, *model.state_dict(), "arch", "model"):
        for text in choose(texts):
            changed = {name: value for name, value in content.items() if name != key}
            if key in content:
                changed[text] = content[key]
            elif key in model.state_dict():
                changed["state_dict"] = {text if k == key else k: t for k, t in model.state_dict().items()}
            else:
                changed = {**training, "arch": text, "args": argparse.Namespace(model=text)}
            torch.save(changed, folder / "net.pt")
            yield lambda: hant.load(folder / "net.pt")


def fields(message: Any) -> Iterator[tuple[Any, Any, int | None]]:
    """Yield (message, field, position or None) of every text and bytes field of an ONNX file that is set."""
    for field, value in message.ListFields():
        repeated = (
            not isinstance(value, str | bytes | int | float)
            and hasattr(value, "__len__")
            and not hasattr(value, "ListFields")
        )
        for position, item in enumerate(value if repeated else [value]):
            if hasattr(item, "ListFields"):
                yield from fields(item)
            elif isinstance(item, str | bytes):
                yield message, field, position if repeated else None


def onnx_files(
    folder: Path, model: nn.Module, choose: Callable[[list[str]], list[str]]
) -> Iterator[Callable[[], nn.Module]]:
    torch.onnx.export(model, (torch.zeros(2, 3, 8, 8),), folder / "net.onnx", dynamo=True, external_data=False)
    original = onnx.load(folder / "net.onnx")
    for number in range(len(list(fields(original)))):
        for text in choose(payloads(folder)):
            changed = onnx.ModelProto()
            changed.CopyFrom(original)
            message, field, position = list(fields(changed))[number]
            if field.name == "raw_data":
                continue  # the weights
            value = text.encode() if field.type == field.TYPE_BYTES else text
            if position is None:
                setattr(message, field.name, value)
            else:
                getattr(message, field.name)[position] = value
            (folder / "net.onnx").write_bytes(changed.SerializeToString())
            yield lambda: hant.load(folder / "net.onnx")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("write", [files, onnx_files])
@pytest.mark.parametrize("count", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_no_string_of_a_file_runs_anything(write: Any, count: int, model: nn.Module, tmp_path: Path) -> None:
    timm.create_model("resnet18")  # imports what reading needs
    images, rng = torch.randn(2, 3, 8, 8), random.Random(0)
    with torch.no_grad():
        expected = model(images)
        seen.clear()
        results = [
            right_or_refused(load, expected, images)
            for load in write(tmp_path, model, lambda texts: rng.sample(texts, min(count, len(texts))))
        ]
    assert len(results) > 25
    assert any(results)
    assert seen == []
    assert not (tmp_path / "canary").exists()


def described(folder: Path, arch: str, **kwargs: object) -> Path:
    save_file({"w": torch.ones(2)}, folder / "x.safetensors")
    form = {"format": "hant.network", "version": 1, "arch": arch, "arch_kwargs": kwargs}
    (folder / "x.json").write_text(json.dumps(form))
    return folder / "x.safetensors"


@pytest.mark.parametrize(
    "arch", ["os:system", "evil.py:make", "torch.nn:Linear", "timm:hf-hub:a/b", "timm.models:resnet18"]
)
def test_a_file_names_no_code_and_the_message_says_what_allows_it(arch: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=rf"x\.safetensors says that '{arch}' makes its network.*--arch '{arch}'"):
        hant.load(described(tmp_path, arch))


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ({"pretrained": True}, "pretrained=True"),
        ({"pretrained_cfg": {"url": "x"}}, "pretrained_cfg="),
        ({"checkpoint_path": "x"}, "checkpoint_path='x'"),
        ({"act_layer": "torch.nn.ReLU"}, r"act_layer='torch\.nn\.ReLU'"),
        ({"block_args": {"file": "x"}}, "block_args="),
        ({"num_classes": 2**30}, "num_classes="),
    ],
)
def test_arguments_of_a_file_fetch_and_read_nothing(kwargs: dict[str, object], named: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=f"gives timm:resnet18 the argument {named}.* which a file may not"):
        hant.load(described(tmp_path, "timm:resnet18", **kwargs))


@pytest.mark.parametrize("kwargs", [{"num_classes": 2**20}, {"img_size": 2**14}, {"depth": 10**5}])
def test_a_file_names_no_network_larger_than_its_weights(kwargs: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="is far larger than the weights that are with it"):
        hant.load(described(tmp_path, "timm:vit_tiny_patch16_224", **kwargs))


def test_a_network_of_a_library_is_read_by_its_name(tmp_path: Path) -> None:
    teacher = timm.create_model("resnet18", num_classes=3).eval()
    hant.save(teacher, tmp_path / "x.pt", arch="timm:resnet18", arch_kwargs={"num_classes": 3})
    assert torch.equal(hant.load(tmp_path / "x.pt").get_parameter("fc.weight"), teacher.fc.weight)


def test_code_that_the_user_names_makes_what_a_file_may_not_name(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    hant.save(model, tmp_path / "x.pt", torch.ones(1, 2), arch="torch.nn:Linear", arch_kwargs={"in_features": 2})
    with pytest.raises(LoadError, match=r"--arch 'torch\.nn:Linear' --arch-kwargs '\{\"in_features\": 2\}'"):
        hant.load(tmp_path / "x.pt")
    made = hant.load(tmp_path / "x.pt", arch="torch.nn:Linear", arch_kwargs={"in_features": 2, "out_features": 3})
    assert torch.equal(made.get_parameter("weight"), model.weight)


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [("arch", ["x"], "arch"), ("tied", [1], "tied"), ("input_shape", [["a"]], "input_shape.0.0"), ("what", 1, "what")],
)
def test_fields_of_another_type_are_named(field: str, value: object, place: str, tmp_path: Path) -> None:
    path = described(tmp_path, "timm:resnet18")
    data = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**data, field: value}))
    with pytest.raises(LoadError, match=f"holds no readable description of its network: '{place}'"):
        hant.load(path)


def test_inputs_that_would_take_the_machines_memory_are_refused(tmp_path: Path) -> None:
    path = described(tmp_path, "timm:resnet18")
    data = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**data, "input_shape": [[3, 10**5, 10**5]]}))
    with pytest.raises(LoadError, match="declares an input of 3x100000x100000"):
        hant.load(path)
