"""Protobuf and ONNX written by hand: to change a file byte by byte, and to write it wrongly."""

import struct
from collections.abc import Callable, Iterator

FLOAT, BYTE, INT, TEXT, BOOL = 1, 2, 7, 8, 9  # TensorProto.DataType
Edit = Callable[[bytes], bytes]
Axes = list[str | int]


# --- protobuf, written by hand


def varint(number: int) -> bytes:
    """A whole number; negative ones take ten bytes."""
    number &= 2**64 - 1
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def block(number: int, content: bytes | str) -> bytes:
    """A field that holds text, bytes or a message."""
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    """A field that holds a whole number."""
    return varint(field << 3) + varint(value)


def parts(message: bytes) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of a sound message."""
    position = 0

    def read() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(message):
        start, tag = position, read()
        if tag & 7 == 2:
            length = read()  # which moves the position
            position += length
        elif tag & 7 == 5:
            position += 4
        else:
            read()
        yield tag >> 3, start, position


def content(field: bytes) -> bytes:
    """What is in a field written by `block`."""
    start = 1
    while field[start - 1] >= 0x80:
        start += 1
    while field[start] >= 0x80:
        start += 1
    return field[start + 1 :]


def edited(message: bytes, field: int, edit: Edit, holding: bytes = b"") -> bytes:
    """The message with the content of one field changed: the one that holds some bytes."""
    out, n_edits = b"", 0
    for found, start, end in parts(message):
        part = message[start:end]
        if found == field and holding in part:
            part, n_edits = block(field, edit(content(part))), n_edits + 1
        out += part
    assert n_edits == 1, f"{n_edits} fields {field} with {holding!r}"
    return out


def edited_number(message: bytes, field: int, new: int) -> bytes:
    """The message with another whole number in its only such field."""
    (place,) = [(start, end) for found, start, end in parts(message) if found == field]
    return message[: place[0]] + number(field, new) + message[place[1] :]


def without(message: bytes, field: int, holding: bytes = b"") -> bytes:
    """The message without the field that holds some bytes."""
    kept = [
        message[start:end]
        for found, start, end in parts(message)
        if found != field or holding not in message[start:end]
    ]
    assert sum(map(len, kept)) < len(message)
    return b"".join(kept)


# --- ONNX, written by hand


def operator(
    op_type: str, inputs: list[str], outputs: list[str], *attributes: bytes, domain: str = ""
) -> bytes:
    """A node."""
    fields = [block(1, name) for name in inputs] + [block(2, name) for name in outputs]
    fields += [block(4, op_type)] + [block(5, attribute) for attribute in attributes]
    fields += [block(7, domain)] if domain else []
    return b"".join(fields)


def node(
    op_type: str, inputs: list[str], outputs: list[str], *attributes: bytes, domain: str = ""
) -> bytes:
    """A node, as a field of a graph."""
    return block(1, operator(op_type, inputs, outputs, *attributes, domain=domain))


def integer(name: str, value: int) -> bytes:
    """An attribute with a whole number."""
    return block(1, name) + number(3, value) + number(20, 2)


def integers(name: str, values: list[int]) -> bytes:
    """An attribute with whole numbers."""
    return block(1, name) + b"".join(number(8, value) for value in values) + number(20, 7)


def with_graph(name: str, graph: bytes) -> bytes:
    """An attribute with a sub-graph."""
    return block(1, name) + block(6, graph) + number(20, 5)


def with_tensor(name: str, tensor: bytes) -> bytes:
    """An attribute with a tensor."""
    return block(1, name) + block(5, tensor) + number(20, 4)


def tensor(name: str, kind: int, dims: list[int], raw: bytes) -> bytes:
    """A tensor of numbers."""
    shape = b"".join(number(1, dim) for dim in dims)
    return shape + number(2, kind) + block(8, name) + block(9, raw)


def whole(name: str, *values: int) -> bytes:
    """An initializer of int64, as a field of a graph: a vector."""
    return block(5, tensor(name, INT, [len(values)], struct.pack(f"<{len(values)}q", *values)))


def scalar(name: str, value: float) -> bytes:
    """An initializer: an int64, or a float32."""
    raw = struct.pack("<q", value) if isinstance(value, int) else struct.pack("<f", value)
    return block(5, tensor(name, INT if isinstance(value, int) else FLOAT, [], raw))


def value(name: str, kind: int, axes: Axes) -> bytes:
    """The declaration of an input or output."""
    dims = [block(2, axis) if isinstance(axis, str) else number(1, axis) for axis in axes]
    shape = b"".join(block(1, dim) for dim in dims)
    return block(1, name) + block(2, block(1, number(1, kind) + block(2, shape)))
