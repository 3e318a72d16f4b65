"""Reading protobuf messages that are not trusted: unknown fields are refused, work is bounded.

A protobuf message is a row of fields, each a tag (number and wire type) and a value, which may be
a message again.
"""

from collections.abc import Iterator
from mmap import mmap
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.errors import ModelFileError

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5  # wire types
_MOST_FIELDS = 100_000  # of a whole file; a model of 5,000 nodes has about 65,000
_MOST_RUNS = 1_000  # of fields that are only counted, a catalogue in one; a model has about 10
_LONGEST_NAME = 1_000  # bytes
_FEW = 16  # texts that are read one by one before many are at once
_PART, _MANY = 1 << 10, 1 << 20  # bytes of one pass, at first and at most
_LETTERS = 0x20  # from here on a byte may be one
_NOTHING = memoryview(b"")


class FieldKind(NamedTuple):
    """Encoding of a field. counted: only the number of fields is read, which may be millions."""

    wire: int
    repeated: bool = False
    counted: bool = False


NUMBER, NUMBERS, N_NUMBERS = (
    FieldKind(_VARINT),
    FieldKind(_VARINT, True),
    FieldKind(_VARINT, True, True),
)
BYTES, LIST, N_BYTES = FieldKind(_LENGTH), FieldKind(_LENGTH, True), FieldKind(_LENGTH, True, True)
FLOAT, FLOATS = FieldKind(_FOUR_BYTES), FieldKind(_FOUR_BYTES, True)
REFUSED = FieldKind(-1)  # known by name, for the errors

Buffer = bytes | bytearray | mmap
Fields = dict[str, Any]
"""Values by name, 0 or empty if missing: int, memoryview, a list of these, or how many."""


class Message:
    """A kind of message, with its fields as name=(number, kind)."""

    def __init__(
        self, label: str, others: bool = False, /, **fields: tuple[int, FieldKind]
    ) -> None:
        """label: what errors call it. others: whether more fields may be there, passed over."""
        self.label = label
        self.others = others
        self.fields = {number: (name, kind) for name, (number, kind) in fields.items()}

    def empty(self) -> Fields:
        """The values of a message without any field."""
        return {
            name: 0 if kind.counted else [] if kind.repeated else _NOTHING if kind.wire else 0
            for name, kind in self.fields.values()
        }


class Reader:
    """Reads the messages of one file, together no more than a bounded number of fields."""

    def __init__(self) -> None:
        self._left, self._runs_left = _MOST_FIELDS, _MOST_RUNS

    def read(self, message: memoryview, kind: Message) -> Fields:
        """The fields, as parts of `message`, not copies. `ModelFileError` for any other field."""
        found, seen = kind.empty(), set()
        position, end = 0, len(message)
        value: int | memoryview
        try:
            while position < end:
                start = position
                tag, position = _varint(message, position)
                number, wire = tag >> 3, tag & 7
                name, field = kind.fields.get(number, ("unknown content", REFUSED))
                self._left -= 1
                if self._left < 0:
                    raise ValueError(f"more than {_MOST_FIELDS} fields in the file")
                if field.wire != wire:
                    if not kind.others:
                        raise _unexpected(kind, name, f"field {number}, wire type {wire}")
                    _, position = _value(message, position, wire)
                elif field.counted:
                    value, position = self._count(message, start)
                    found[name] += value
                else:
                    value, position = _value(message, position, wire)
                    if field.repeated:
                        found[name].append(value)
                    elif number in seen:
                        # Protobuf would join the two, or take the last: read must be what runs.
                        raise _unexpected(kind, name, "twice")
                    else:
                        found[name] = value
                        seen.add(number)
        except (IndexError, ValueError) as error:
            raise ModelFileError(
                f"not an ONNX model, or a damaged one ({kind.label}: {error}); "
                "copy or export it again"
            ) from error
        return found

    def _count(self, message: memoryview, start: int) -> tuple[int, int]:
        self._runs_left -= 1
        if self._runs_left < 0:
            raise ValueError(f"more than {_MOST_RUNS} runs of ids or texts in the file")
        return _run(message, start)


def fields_of(message: memoryview, number: int) -> Iterator[memoryview]:
    """The contents of every field `number`, of a message that has been checked."""
    for found, _, value, end in spans(message):
        if found == number:
            yield message[value:end]


def numbers_of(message: memoryview, number: int) -> Iterator[int]:
    """The values of every field `number`, which is one of numbers, of a checked message."""
    for found, _, position, _ in spans(message):
        if found == number:
            yield cast(int, _value(message, position, _VARINT)[0])


def spans(message: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Each field of a message that has been checked: its number, where it begins, where its value
    begins, and where both end."""
    start = 0
    while start < len(message):
        tag, position = _varint(message, start)
        value, end = _value(message, position, tag & 7)
        length = len(value) if isinstance(value, memoryview) else end - position
        yield tag >> 3, start, end - length, end
        start = end


def text(content: memoryview) -> str:
    """Text; what is no UTF-8 is shown as it is."""
    return str(content, "utf-8", "backslashreplace")


def short_text(content: memoryview) -> str:
    """Text of a name in a graph, limited: it may be read many times and is shown in errors."""
    if len(content) > _LONGEST_NAME:
        raise ModelFileError(
            f"the graph has a name of {len(content)} bytes, above the limit of {_LONGEST_NAME}: "
            "attnrec never writes that; export it again"
        )
    return text(content)


def _unexpected(kind: Message, name: str, how: str) -> ModelFileError:
    return ModelFileError(
        f"{kind.label} has {name} ({how}): attnrec never writes that; export it again"
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
    if value < 0x80:  # nearly always
        return value, position + 1
    value &= 0x7F
    for shift in range(7, 70, 7):
        position += 1
        byte = message[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80 and value < 2**64:
            return value, position + 1
    raise ValueError("a number beyond 64 bits")


def _run(message: memoryview, position: int) -> tuple[int, int]:
    """How many fields with the tag at `position` follow each other, and where they end."""
    tag, count = message[position], 0
    if tag >= 0x80:
        raise ValueError("a tag of two bytes")
    if tag & 7 == _VARINT:
        return _run_of_numbers(message, position)
    data = np.frombuffer(message, np.uint8)
    patience, size = _FEW, _PART
    while True:
        n, position = _one_by_one(message, position, tag, patience)
        count += n
        if n < patience:
            return count, position
        n, end = _of_short_ones(data[position : position + size], tag)
        count += n
        # Only where all of a part were short ones, a larger part is worth looking through.
        size = min(4 * size, _MANY) if 2 * end > size else _PART
        position += end
        patience = _FEW if n >= _FEW else min(8 * patience, _MANY)  # longer ones may follow


def _one_by_one(message: memoryview, position: int, tag: int, most: int) -> tuple[int, int]:
    """How many fields with bytes follow each other, of at most so many, and where they end."""
    count = 0
    try:  # a tight loop
        while count < most and message[position] == tag:
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


def _of_short_ones(part: NDArray[np.uint8], tag: int) -> tuple[int, int]:
    """Count and end of texts below 32 bytes, vectorised, without the last one; may be 0.

    Where a tag comes before a byte that is a length, but no letter, a field begins in all
    likelihood. It does for certain where the field before it ends just there.
    """
    begins = np.flatnonzero((part[:-1] == tag) & (part[1:] < _LETTERS))
    if not len(begins) or begins[0]:
        return 0, 0
    follows = begins[:-1] + 2 + part[begins[:-1] + 1] == begins[1:]
    count = len(follows) if follows.all() else int(follows.argmin())
    return count, int(begins[count])


def _run_of_numbers(message: memoryview, position: int) -> tuple[int, int]:
    """Count and end of number fields, vectorised; parts grow with what was found.

    The last byte of a tag or number is the only one below 128.
    """
    data, tag = np.frombuffer(message, np.uint8), message[position]
    count, size = 0, _PART
    while position < len(data) and data[position] == tag:
        part = data[position : position + size]
        last = np.flatnonzero(part < 0x80)
        tags, numbers = last[: len(last) & ~1 : 2], last[1::2]
        belongs = (part[tags] == tag) & (numbers - tags <= 10)
        belongs[1:] &= tags[1:] == numbers[:-1] + 1
        n = len(tags) if belongs.all() else int(belongs.argmin())
        if not n:
            raise ValueError("a number beyond the end, or beyond 64 bits")
        count += n
        position += int(numbers[n - 1]) + 1
        size = min(4 * size, _MANY)
    return count, position
