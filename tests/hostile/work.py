"""Crafted files that would be much work to read, although each is small."""

import struct

from edits import Case, adding, in_dictionary, in_facts, in_model
from writer import INT, TEXT, Edit, block, edited, node, number, operator, scalar, tensor, varint

from attnrec.runtime.model_file import format as names

RUNS = "more than 1000 runs of ids or texts in the file"
FIELDS = "more than 100000 fields in the file"


def much_work() -> list[Case]:
    """More than a second, or 300 MB, to a reader without limits."""
    return [*many_runs(), *long_texts(), *long_facts(), *many_of_a_kind()]


def many_runs() -> list[Case]:
    """Fields that are counted many at once, where few of a kind follow each other."""

    def ending(content: bytes) -> Edit:
        return lambda attribute: attribute + content

    rest = number(8, 1) * 1_000_000  # 2 MB behind the short runs
    numbers = (number(8, 1) + block(9, b"")) * 45_000
    twenty = (number(8, 300) * 20 + block(9, b"ab") * 20) * 4_000
    long_texts = (number(8, 2**40) + block(9, b"t" * 200)) * 9_000
    texts = [block(5, tensor_of_text(f"t{i}")) for i in range(9_000)]
    floats = (number(8, 1) + varint(2 << 3 | 5) + b"abcd") * 30_000  # a field that stands once
    encoder = block(4, "LabelEncoder") + block(5, block(1, "keys_strings") + block(9, b"a") * 3)
    files = {
        "of one number": in_dictionary("values_int64s", ending(numbers + rest)),
        "of twenty": in_dictionary("values_int64s", ending(twenty + rest)),
        "of one long text": in_dictionary("keys_strings", ending(long_texts + rest)),
        "of tensors": adding(*texts),
        "of nodes": adding(*[block(1, encoder)] * 4_500),
    }
    once = in_dictionary("values_int64s", ending(floats + rest))
    return [
        *(Case(f"short runs {name}", file, RUNS) for name, file in files.items()),
        Case("short runs and another field", once, "an attribute has f (twice)"),
    ]


def tensor_of_text(name: str) -> bytes:
    return number(1, 1) + number(2, TEXT) + block(6, "x") + block(8, name)


def long_texts() -> list[Case]:
    """A name that is megabytes long, and no text, so that it is four times as long to show."""
    long = b"\xff" * 10_000_000
    limit = "a name of 10000000 bytes, above the limit of 1000"
    declared = block(11, block(1, long) + block(2, b""))
    files = {
        "of an operator": adding(block(1, block(4, long))),
        "of a domain": adding(block(1, block(4, "Abs") + block(7, long))),
        "of an input": adding(block(1, block(1, long) + block(4, "Abs"))),
        "of an output": adding(block(1, block(2, long) + block(4, "Abs"))),
        "of a tensor": adding(block(5, number(2, INT) + block(8, long))),
        "of an attribute": adding(
            node("LabelEncoder", [], ["far"], block(1, long), domain="ai.onnx.ml")
        ),
        "of what the graph is asked": adding(declared),
        "of a set of operators": in_model(lambda m: m + block(8, block(1, long))),
    }
    return [Case(f"a long name {name}", file, limit) for name, file in files.items()]


def with_fact(key: str, text: bytes) -> bytes:
    """The file with another text of a metadata entry."""

    def replaced(entry: bytes) -> bytes:
        return edited(entry, 2, lambda _: text)

    return in_model(lambda model: edited(model, 14, replaced, block(1, key)))


def long_facts() -> list[Case]:
    """Long metadata."""
    digits, deep = b"9" * 100_000, b"[" * 900_000
    more = "characters, limit 1048576"
    lists = b"[" + b"[]," * 10**6 + b"[]]"
    entry = block(14, block(1, "more") + block(2, b"a" * 2**20))
    version = '"lowest_onnxruntime": "'
    return [
        Case("a fact of a million lists", with_fact(names.DATA_KEY, lists), more),
        Case(
            "deep facts", with_fact(names.METRICS_KEY, deep), "metadata is incomplete (Recursion"
        ),
        Case(
            "a fact of many digits", with_fact(names.PARITY_KEY, digits), "metadata is incomplete"
        ),
        Case(
            "many digits of a version",
            in_facts(names.VERSIONS_KEY, version, version + "9" * 100_000),
            "the file needs onnxruntime 99999999999999999999 or newer",
        ),
        Case(
            "a version of many numbers",
            in_facts(names.VERSIONS_KEY, version, version + "9." * 400_000),
            "the file needs onnxruntime 9.9.9.9.9.9.9.9.9.9. or newer",
        ),
        Case(
            "a number of items that is a list",
            in_facts(names.MODEL_KEY, '32, "cat', "[" + "0," * 400_000 + '0], "cat'),
            "metadata is incomplete",
        ),
        Case(
            "metadata of 20 MB",
            in_model(lambda m: m + b"".join([entry] * 20)),
            "bytes of metadata, above the limit of 16777216",
        ),
    ]


def many_of_a_kind() -> list[Case]:
    """As much as the limits allow, or a little more."""
    numbers = struct.pack("<64q", *[3] * 64)
    tensors = [block(5, tensor(f"s{i}", INT, [64], numbers)) for i in range(24_000)]
    same = block(5, tensor("same", INT, [64], numbers))
    shapes = [block(5, tensor(f"s{i}", INT, [1] * 8 + [2**31 - 1] * 1, b"")) for i in range(9_000)]
    deep_node = node("Max", ["n_known"] * 90_000, ["far"])
    inputs = [block(11, block(1, f"i{i}") + block(2, b"")) for i in range(20_000)]
    long_tag = bytes([5 << 3 | 2 | 0x80]) + b"\x80" * 8 + b"\x00"
    lengths = (long_tag + b"\x80" * 9 + b"\x00") * 90_000
    texts = in_dictionary("keys_strings", lambda c: c + block(9, b"\x4a\x01") * 3_000_000)
    wide = operator("LabelEncoder", [], ["far"], domain="ai.onnx.ml")
    wide += block(5, block(1, "keys_strings") + block(9, b"k" * 100) * 100_000)
    return [
        Case("24,000 tensors of numbers", adding(*tensors), FIELDS),
        Case("20,000 tensors of one name", adding(*[same] * 20_000), "two values 'same'"),
        Case("9,000 tensors of nine axes", adding(*shapes), "the tensor 's0' of shape"),
        Case("90,000 inputs of a node", adding(deep_node, *[same] * 2), "two values 'same'"),
        Case("20,000 inputs", adding(*inputs), "the inputs ["),
        Case("lengths of ten bytes", adding(lengths), "the tensor '' of shape"),
        Case("3 million keys like tags", texts, "ids and rows for 32 items"),
        Case("100,000 keys of a node", adding(block(1, wide), same, same), "two values 'same'"),
        Case("bounds of everything", adding(*many_bounds()), "above the limit of 2^20"),
    ]


def many_bounds() -> list[bytes]:
    """Sizes that grow with each node until nothing could be so large."""
    start = scalar("b0", 2**30)
    nodes = [node("Mul", [f"b{i}"] * 3, [f"b{i + 1}"]) for i in range(4_000)]
    return [start, *nodes, node("ConstantOfShape", ["b4000"], ["far"])]


def golden_vectors() -> list[Case]:
    """Golden vectors that are much to read: nearly all that metadata may hold."""
    size = 15 * 2**20
    more = "characters, above the limit of 1048576"
    return [
        Case(f"golden vectors of {one}", with_fact(names.GOLDEN_KEY, text), more)
        for one in ("{}", "[]", "0", '{"a":0}')
        for text in [b"[" + f"{one},".encode() * (size // (len(one) + 1)) + f"{one}]".encode()]
    ]
