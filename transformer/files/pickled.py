"""What a pickle would run, read from its opcodes. Nothing is executed here."""

from __future__ import annotations

import io
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..errors import LoadError

_DATA = re.compile(
    r"(collections\.OrderedDict|argparse\.Namespace|torch\.(Size|device|Tensor|dtype)|torch\.serialization\._get_layout"
    r"|torch\.\w+Storage|torch\.storage\.(Typed|Untyped)Storage|torch\.nn\.parameter\.(Parameter|Buffer)"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|parameter|parameter_with_state)"
    r"|torch\.(float|double|half|bfloat|int|long|short|uint|bool|complex|cfloat|cdouble)\w*"
    r"|_codecs\.encode|(__builtin__|builtins)\.(set|list|dict|tuple|int|float|bool|str))\Z"
)
_LARGEST_PICKLE = 64 * 2**20
_PICKLES = (".pkl", ".pickle")
_NESTED = (".pt", ".pth")
"""Torch files inside an archive, such as the sample inputs in one of torch.export."""
_DEEPEST = 2
_DAMAGE = (zipfile.BadZipFile, OSError, ValueError, EOFError, OverflowError, MemoryError, RuntimeError, struct.error)
"""What the readers of archives and pickles raise on damaged files."""
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "SHORT_BINSTRING", "BINSTRING"}


def code_named_by(path: Path) -> tuple[str, ...]:
    """Return the functions and classes that a torch file names beyond those of plain tensors, each once, in order.

    Raises:
        LoadError: the file is not a torch file, or is damaged.
    """
    names: dict[str, None] = {}
    try:
        with path.open("rb") as file:
            for stream in _pickles(path, file):
                names.update(dict.fromkeys(_globals(stream)))
    except _DAMAGE as error:
        raise LoadError(f"{path} is damaged: {str(error)[:100]}; fetch or save it again") from error
    return tuple(name for name in names if not _DATA.match(name))


def _pickles(path: Path, file: IO[bytes], depth: int = 0) -> Iterator[IO[bytes]]:
    """Yield the pickles of a torch file: those in a zip archive and in torch files inside it, or, in the older format,
    several behind each other.
    """
    if zipfile.is_zipfile(file):
        with checked_archive(path, file) as archive:
            for entry in archive.infolist():
                if not entry.filename.endswith((*_PICKLES, *_NESTED)):
                    continue
                if entry.file_size > _LARGEST_PICKLE:
                    raise LoadError(f"{path} holds a pickle of more than {_LARGEST_PICKLE} bytes; it is no model file")
                with archive.open(entry) as stream:
                    if entry.filename.endswith(_PICKLES):
                        yield stream
                    elif depth < _DEEPEST:
                        yield from _pickles(path, io.BytesIO(stream.read()), depth + 1)
        return
    file.seek(0)
    while (start := file.read(1)) == b"\x80":
        file.seek(-len(start), io.SEEK_CUR)
        yield file


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip archive.

    Raises:
        LoadError: it is one, but damaged.
    """
    try:
        return zipfile.is_zipfile(path)
    except _DAMAGE as error:
        raise LoadError(f"{path} is damaged: {str(error)[:100]}; fetch or save it again") from error


def checked_archive(path: Path, file: IO[bytes] | None = None) -> zipfile.ZipFile:
    """Open a zip archive whose entries are stored as they are, as torch writes them.

    Raises:
        LoadError: compressed entries, which could be a hundred thousand times larger than the file, a TorchScript
            program, or damage.
    """
    try:
        archive = zipfile.ZipFile(path if file is None else file)
        entries = archive.infolist()
    except _DAMAGE as error:
        raise LoadError(f"{path} is damaged: {str(error)[:100]}; fetch or save it again") from error
    if any(entry.filename.split("/", 1)[-1].startswith("code/") for entry in entries):
        archive.close()
        raise LoadError(
            f"{path} is a TorchScript program, which holds code; load it in the program that made it and save the "
            "weights with torch.save(model.state_dict(), ...), then give --arch"
        )
    size = path.stat().st_size
    if any(e.compress_type != zipfile.ZIP_STORED for e in entries) or sum(e.file_size for e in entries) > size:
        archive.close()
        raise LoadError(
            f"{path} is a compressed archive that would unpack to {sum(e.file_size for e in entries)} bytes; "
            "torch files are stored uncompressed, so it is not read"
        )
    return archive


def _globals(stream: IO[bytes]) -> Iterator[str]:
    recent: list[str] = []
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in _STRINGS and isinstance(argument, str):
            recent.append(argument)
        elif opcode.name == "GLOBAL" or opcode.name == "INST":
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(recent[-2:]) if len(recent) > 1 else "a computed name"
        elif opcode.name in ("EXT1", "EXT2", "EXT4"):
            yield f"the extension {argument}"
