"""Large tensors stay in the file: onnxruntime maps them into memory instead of copying them.

It maps data that lies outside of a model. So it gets the model without its largest tensors, which
are declared as external data at an offset of the model file itself. Pages that are never read take
no memory, and the system can drop those that were read.
"""

import os

import onnxruntime

from attnrec.runtime.model_file import onnx_messages as onnx
from attnrec.runtime.model_file.format import field
from attnrec.runtime.model_file.protobuf import Reader, spans

LARGE = 2**24
"""Bytes; below, a copy costs little, and later changes of the file do not matter."""

_TO_DATA = (7, 5, 9)  # the fields graph, initializer and raw_data, each inside the one before
_EXTERNAL_DATA, _DATA_LOCATION = 13, bytes([14 << 3, 1])
_FOLDER = "session.model_external_initializers_file_folder_path"
_KEPT = b"no_item"  # unavailable items are written there


def real_place(path: str | os.PathLike[str]) -> bytes | None:
    """The path of a file with every link resolved; None where its name leads to no file.

    onnxruntime refuses a link that leads out of its folder. A file that is open but deleted has no
    place any more. As bytes, for a folder may have a name that is no text.
    """
    place = os.fsencode(os.path.realpath(path))
    return place if os.path.exists(place) and os.path.samefile(path, place) else None


def point_to_file(
    content: memoryview, place: bytes, options: onnxruntime.SessionOptions, large: int = LARGE
) -> bytes:
    """The model without its large tensors, and options that let onnxruntime find them in a file.

    content: of the file, checked. place: of `real_place`. large: tensors of more bytes.
    """
    folder, name = os.path.split(place)
    options.add_session_config_entry(_FOLDER, folder)
    return _without_large(content, 0, _TO_DATA, name, large)


def _without_large(
    message: memoryview, place: int, way: tuple[int, ...], name: bytes, large: int
) -> bytes:
    """The fields of a message that begins at `place`; what is large on the way is rewritten."""
    parts: list[bytes | memoryview] = []
    for number, start, value, end in spans(message):
        if number != way[0] or end - value <= large:
            parts.append(message[start:end])
        elif len(way) == 1:
            offset, length = b"%d" % (place + value), b"%d" % (end - value)
            for entry in ((b"location", name), (b"offset", offset), (b"length", length)):
                parts.append(field(_EXTERNAL_DATA, field(1, entry[0]) + field(2, entry[1])))
            parts.append(_DATA_LOCATION)
        elif len(way) == 2 and Reader().read(message[value:end], onnx.TENSOR)["name"] == _KEPT:
            parts.append(message[start:end])
        else:
            inner = _without_large(message[value:end], place + value, way[1:], name, large)
            parts.append(field(number, inner))
    return b"".join(parts)
