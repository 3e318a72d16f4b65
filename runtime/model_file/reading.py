"""Reading a model file: everything that is checked before onnxruntime sees it."""

import os
import stat
from mmap import ACCESS_COPY, mmap
from typing import BinaryIO

import onnxruntime

from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.files import no_model_file
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file import mapping
from attnrec.runtime.model_file import onnx_messages as onnx
from attnrec.runtime.model_file.checks import check_graph
from attnrec.runtime.model_file.facts import ModelInfo, format_version
from attnrec.runtime.model_file.protobuf import Reader

_LARGEST_FILE = 2**31 - 1  # protobuf can express no larger message
_MOST_METADATA = 2**24  # bytes; a file of attnrec has 10,000 to 100,000


def read_model_file(path: str | os.PathLike[str], *, verify: bool) -> bytes | mmap:
    """The bytes of an attnrec file. `ModelFileError` names the fault and the remedy.

    Those of a large file are mapped pages; writing to them does not change the file.

    verify: compare the seal, which notices any altered byte, and check what the graph is made of;
    False still checks that this is an attnrec file of a format and for an onnxruntime that this
    machine has.
    """
    try:
        with open(path, "rb", opener=_open) as file:
            content = _content(file, path)
    except FileNotFoundError as error:
        raise no_model_file(path) from error
    except OSError as error:
        raise ModelFileError(
            f"{path} cannot be read: {error.strerror}; name a file from attnrec-export"
        ) from error
    try:
        if verify:
            _check_seal(content)
        metadata = _metadata(content)
        format_version(metadata)
        info = ModelInfo.from_metadata(metadata)
        check_onnxruntime(info)
        if verify:
            check_graph(content, info)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    return content


def _open(path: str, flags: int) -> int:
    """Open a pipe without waiting for its writer; for a regular file nothing changes."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # not on Windows


def _content(file: BinaryIO, path: str | os.PathLike[str]) -> bytes | mmap:
    """The content of an open file; `ModelFileError` for a pipe, a device, or above 2 GiB."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        # Its size is unknown, and it is read again after a fork and for similar items.
        raise ModelFileError(
            f"{path} cannot be read: it is a pipe or a device, not a regular file; copy what it "
            "holds to a file and name that one"
        )
    if status.st_size > _LARGEST_FILE:
        raise ModelFileError(f"{path}: {status.st_size} bytes, above the limit of 2 GiB of ONNX")
    if status.st_size > mapping.LARGE:
        return mmap(file.fileno(), status.st_size, access=ACCESS_COPY)
    return file.read(status.st_size)


def check_is_same(path: bytes, content: bytes | mmap) -> None:
    """Refuse a file that was replaced after its content was checked."""
    with open(path, "rb") as file:
        file.seek(-names.SEAL_LENGTH, os.SEEK_END)
        if file.read(names.SEAL_LENGTH) != content[-names.SEAL_LENGTH :]:
            raise ModelFileError("replaced while it was being loaded; load it again")


def check_onnxruntime(info: ModelInfo) -> None:
    """Refuse a file that the installed onnxruntime is too old for."""
    lowest = str(info.versions.get("lowest_onnxruntime", "0"))
    if _numbers(onnxruntime.__version__) < _numbers(lowest):
        raise ModelFileError(
            f"the file needs onnxruntime {lowest[:20]} or newer, here is "
            f"{onnxruntime.__version__}: pip install --upgrade onnxruntime, or export it again "
            "with the one that is here"
        )


def _check_seal(content: bytes | mmap) -> None:
    if names.SEAL_KEY.encode() not in content[-2 * names.SEAL_LENGTH : -names.SEAL_LENGTH]:
        raise ModelFileError(
            "no seal at the end: either not a file from attnrec-export, or cut short; "
            "copy or export it again"
        )
    if not names.seal_is_intact(content):
        raise ModelFileError(
            "altered since export, or cut short: its sha256 is not the one at its end; "
            "copy or export it again"
        )


def _metadata(content: bytes | mmap) -> dict[str, str]:
    """Metadata entries, without reading the graph.

    Each key stands once: of two, onnxruntime would read the later one, others the earlier one.
    """
    reader = Reader()
    metadata: dict[str, str] = {}
    entries = reader.read(memoryview(content), onnx.ANY_MODEL)["metadata_props"]
    n_bytes = sum(map(len, entries))
    if n_bytes > _MOST_METADATA:
        raise ModelFileError(
            f"{n_bytes} bytes of metadata, above the limit of {_MOST_METADATA}: attnrec never "
            "writes that; export it again"
        )
    for value in entries:
        entry = reader.read(value, onnx.ENTRY)
        try:
            key, text = str(entry["key"], "utf-8"), str(entry["value"], "utf-8")
        except UnicodeDecodeError as error:
            raise ModelFileError(
                f"a metadata entry that is no text ({error}); copy or export it again"
            ) from error
        if key in metadata:
            raise ModelFileError(
                f"two metadata entries {key[:40]!r}: changed since export; export it again"
            )
        metadata[key] = text
    return metadata


def _numbers(version: str) -> tuple[int, ...]:
    """(1, 24, 3) of "1.24.3"; what follows a non-number is left out."""
    numbers = []
    for part in version.split(".", 3)[:3]:
        if not part.isdecimal():
            break
        numbers.append(int(part[:9]))
    return tuple(numbers)
