"""What is checked of a model file before onnxruntime sees it."""

import os

import onnxruntime

from attnrec.runtime import format as names
from attnrec.runtime.errors import ModelFileError
from attnrec.runtime.model_info import ModelInfo, format_version

_LARGEST_FILE = 2**31 - 1  # protobuf can express no larger message
_MOST_FIELDS = 10_000  # of the outermost message; an attnrec file has about 15


def read_model_file(path: str | os.PathLike[str], *, verify: bool) -> bytes:
    """The bytes of an attnrec file. `ModelFileError` says what is wrong and what to do.

    verify: compare the seal, which notices any altered byte; False still checks that this is an
    attnrec file of a format and for an onnxruntime that this machine has.
    """
    try:
        size = os.path.getsize(path)
        if size > _LARGEST_FILE:
            raise ModelFileError(f"{path}: {size} bytes, above the limit of 2 GiB of ONNX")
        with open(path, "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} does not exist; make it with attnrec-export") from error
    except OSError as error:
        raise ModelFileError(
            f"{path} cannot be read: {error.strerror}; name a file from attnrec-export"
        ) from error
    try:
        if verify:
            _check_seal(content)
        metadata = _metadata(content)
        format_version(metadata)
        check_onnxruntime(ModelInfo.from_metadata(metadata))
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    return content


def check_onnxruntime(info: ModelInfo) -> None:
    """Refuse a file that the installed onnxruntime is too old for."""
    lowest = str(info.versions.get("lowest_onnxruntime", "0"))
    if _numbers(onnxruntime.__version__) < _numbers(lowest):
        raise ModelFileError(
            f"the file needs onnxruntime {lowest} or newer, here is {onnxruntime.__version__}: "
            "pip install --upgrade onnxruntime"
        )


def _check_seal(content: bytes) -> None:
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


def _metadata(content: bytes) -> dict[str, str]:
    """Metadata entries (field 14 of ModelProto), without reading the graph.

    Each key stands once: of two, onnxruntime would read the later one, others the earlier one.
    """
    metadata: dict[str, str] = {}
    try:
        for number, value in _fields(content):
            if number == 14:
                entry = dict(_fields(value))
                key = entry[1].decode()
                if key in metadata:
                    raise ModelFileError(
                        f"two metadata entries {key[:40]!r}: changed since export; export it again"
                    )
                metadata[key] = entry[2].decode()
    except (IndexError, KeyError, UnicodeDecodeError, ValueError) as error:
        raise ModelFileError(
            "not an ONNX model, or a damaged one; copy or export it again"
        ) from error
    return metadata


def _fields(message: bytes) -> list[tuple[int, bytes]]:
    """(number, content) of the length-delimited fields of a protobuf message."""
    fields: list[tuple[int, bytes]] = []
    position = 0
    for _ in range(_MOST_FIELDS):
        if position == len(message):
            return fields
        tag, position = _varint(message, position)
        wire_type = tag & 7
        if wire_type == 2:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise ValueError("field beyond the end")
            # The graph is most of the file: it is passed over, not copied.
            if tag >> 3 != 7:
                fields.append((tag >> 3, message[position : position + length]))
            position += length
        elif wire_type == 0:
            _, position = _varint(message, position)
        else:
            raise ValueError(f"wire type {wire_type}")
    raise ValueError("too many fields")


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("number too long")


def _numbers(version: str) -> tuple[int, ...]:
    """(1, 24, 3) of "1.24.3"; what follows a non-number is left out."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)
