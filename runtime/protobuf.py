"""Reading protobuf messages that may lie: every field must be expected, the work is bounded.

A protobuf message is a row of fields, each a tag (number and wire type) and a value, which may be
a message again.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from attnrec.runtime.errors import ModelFileError

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5  # wire types
_MOST_FIELDS = 100_000  # of a whole file; a model of 5,000 nodes has about 65,000


class Field(NamedTuple):
    """How a field is written. counted: only how many there are matters; it may be millions."""

    wire: int
    repeated: bool = False
    counted: bool = False


NUMBER, NUMBERS, N_NUMBERS = (Field(_VARINT), Field(_VARINT, True), Field(_VARINT, True, True))
BYTES, LIST, N_BYTES = (Field(_LENGTH), Field(_LENGTH, True), Field(_LENGTH, True, True))
FLOAT, FLOATS = Field(_FOUR_BYTES), Field(_FOUR_BYTES, True)


class Message(NamedTuple):
    """A kind of message: its fields by number; names of others for errors; open: skip others."""

    name: str
    fields: Mapping[int, Field]
    refused: Mapping[int, str] = {}
    open: bool = False


class Reader:
    """Reads the messages of one file, together no more than a bounded number of fields."""

    def __init__(self) -> None:
        self._left = _MOST_FIELDS

    def read(self, message: memoryview, kind: Message) -> dict[int, list[Any]]:
        """The values of each field that is there: int, or a part of `message`, not a copy.

        `ModelFileError` for bytes that are no message, and for a field of another kind.
        """
        found: dict[int, list[Any]] = {}
        position, end = 0, len(message)
        value: int | memoryview
        try:
            while position < end:
                start = position
                tag, position = _varint(message, position)
                number, wire = tag >> 3, tag & 7
                field = kind.fields.get(number)
                self._left -= 1
                if self._left < 0:
                    raise ValueError(f"more than {_MOST_FIELDS} fields in the file")
                if field is None or field.wire != wire:
                    if not kind.open:
                        raise _unexpected(kind, number, f"as wire type {wire}")
                    _, position = _value(message, position, wire)
                    continue
                if number in found and not field.repeated:
                    # Protobuf would join the two, or take the last: read must be what runs.
                    raise _unexpected(kind, number, "twice")
                if field.counted:
                    value, position = _run(message, start)
                else:
                    value, position = _value(message, position, wire)
                found.setdefault(number, []).append(value)
        except (IndexError, ValueError) as error:
            raise ModelFileError(
                f"not an ONNX model, or a damaged one ({kind.name}: {error}); "
                "copy or export it again"
            ) from error
        return found


def _unexpected(kind: Message, number: int, how: str) -> ModelFileError:
    what = kind.refused.get(number, "unexpected content")
    return ModelFileError(
        f"{kind.name} has {what} (field {number} {how}): attnrec never writes that; export it again"
    )


def _value(message: memoryview, position: int, wire: int) -> tuple[int | memoryview, int]:
    if wire == _VARINT:
        number, position = _varint(message, position)
        return number - (number >> 63 << 64), position  # two's complement
    if wire == _LENGTH:
        length, position = _varint(message, position)
    elif wire in (_FOUR_BYTES, _EIGHT_BYTES):
        length = 4 if wire == _FOUR_BYTES else 8
    else:
        raise ValueError(f"wire type {wire}")
    end = position + length
    if end > len(message):
        raise ValueError(f"a field of {length} bytes where {len(message) - position} are left")
    return message[position:end], end


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = message[position]
    if value < 0x80:
        return value, position + 1
    value &= 0x7F
    for shift in range(7, 64, 7):
        position += 1
        byte = message[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80 and value < 2**64:
            return value, position + 1
    raise ValueError("a number beyond 64 bits")


def _run(message: memoryview, position: int) -> tuple[int, int]:
    """How many fields with the tag at `position` follow each other, and where they end."""
    tag, count = message[position], 0
    if tag & 7 == _VARINT:
        return _run_of_numbers(message, position)
    if tag >= 0x80:
        raise ValueError("a tag of two bytes")
    try:  # a tight loop: twice for every text id
        while message[position] == tag:
            length = message[position + 1]
            if length >= 0x80:
                length, position = _varint(message, position + 1)
                position -= 2
            position += length + 2
            count += 1
    except IndexError:
        if position != len(message):
            raise
    return count, position


def _run_of_numbers(message: memoryview, start: int) -> tuple[int, int]:
    """The same, at once: the last byte of a tag or number is the only one below 128."""
    data = np.frombuffer(message[start:], np.uint8)
    last = np.flatnonzero(data < 0x80)
    tags, numbers = last[: len(last) & ~1 : 2], last[1::2]
    belongs = (data[tags] == data[0]) & (numbers - tags <= 10)
    belongs[1:] &= tags[1:] == numbers[:-1] + 1
    count = len(tags) if belongs.all() else int(belongs.argmin())
    if not count or tags[0]:
        raise ValueError("a number beyond the end, or beyond 64 bits")
    return count, start + int(numbers[count - 1]) + 1
