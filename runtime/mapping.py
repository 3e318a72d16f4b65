"""Large tensors stay in the file: onnxruntime maps them into memory instead of copying them.

It does so for data that lies outside of a model. So it gets the model without its largest tensors,
and is told that these lie in a file beside it, at such a place: in the model file itself. Pages of
it that nobody reads take no memory, and the system can take back those that were read.
"""

import ctypes
import os
import sys
from collections.abc import Iterator

import onnxruntime

from attnrec.runtime import onnx_messages as onnx
from attnrec.runtime.format import field
from attnrec.runtime.protobuf import Reader, spans, text

LARGE = 2**24
"""Bytes; below, a copy costs little, and does not mind who changes the file later."""

_TO_DATA = (7, 5, 9)  # the fields graph, initializer and raw_data, each inside the one before
_EXTERNAL_DATA, _DATA_LOCATION = 13, bytes([14 << 3, 1])
_FOLDER = "session.model_external_initializers_file_folder_path"
_DONT_NEED = 4  # MADV_DONTNEED of Linux
_KEPT = "no_item"  # what is not available is written there


def point_to_file(
    content: memoryview, path: str | os.PathLike[str], options: onnxruntime.SessionOptions
) -> bytes:
    """The model without its large tensors, and options that let onnxruntime find them in `path`.

    content: of the file at `path`, checked.
    """
    folder, name = os.path.split(os.path.abspath(os.fspath(path)))
    options.add_session_config_entry(_FOLDER, folder)
    return _without_large(content, 0, _TO_DATA, name)


def give_back(path: str | os.PathLike[str]) -> None:
    """Let the system have what loading has left behind, where it can be told to (on Linux).

    Pages of the file that were read once, to be packed for the scan, and free places of the heap.
    All of it comes back by itself when it is needed again.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    for start, size in _untouched_areas(os.path.abspath(os.fspath(path))):
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _DONT_NEED)
    if hasattr(libc, "malloc_trim"):  # of glibc
        libc.malloc_trim(0)


def _untouched_areas(path: str) -> Iterator[tuple[int, int]]:
    """Start and size of each mapping of the file that nobody has written to."""
    area = name = ""
    with open("/proc/self/smaps", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            words = line.split(maxsplit=5)
            if not words[0].endswith(":"):
                area, name = words[0], words[-1].rstrip("\n")
            elif name == path and words[:2] == ["Anonymous:", "0"]:
                start, end = (int(bound, 16) for bound in area.split("-"))
                yield start, end - start


def _without_large(message: memoryview, place: int, way: tuple[int, ...], name: str) -> bytes:
    """The fields of a message that begins at `place`; what is large on the way is rewritten."""
    parts: list[bytes | memoryview] = []
    for number, start, value, end in spans(message):
        if number != way[0] or end - value <= LARGE:
            parts.append(message[start:end])
        elif len(way) == 1:
            where = {"location": name, "offset": str(place + value), "length": str(end - value)}
            for key, told in where.items():
                entry = field(1, key.encode()) + field(2, told.encode())
                parts.append(field(_EXTERNAL_DATA, entry))
            parts.append(_DATA_LOCATION)
        elif len(way) == 2 and _name(message[value:end]) == _KEPT:
            parts.append(message[start:end])
        else:
            inner = _without_large(message[value:end], place + value, way[1:], name)
            parts.append(field(number, inner))
    return b"".join(parts)


def _name(tensor: memoryview) -> str:
    return text(Reader().read(tensor, onnx.TENSOR)["name"])
