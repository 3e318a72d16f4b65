"""Crafted files of the wrong size: growing, endless, or with shapes that do not fit their data."""

import struct

from edits import (
    FORMAT_1,
    INT8,
    INT64,
    N_ROWS,
    WIDTH,
    Case,
    adding,
    edited_branch,
    in_branch,
    in_dictionary,
    in_facts,
    in_graph,
    in_model,
    in_tensor,
)
from writer import (
    BOOL,
    BYTE,
    FLOAT,
    INT,
    TEXT,
    Edit,
    block,
    edited_number,
    integer,
    integers,
    node,
    number,
    scalar,
    tensor,
    whole,
    with_graph,
    with_tensor,
    without,
)

from attnrec.runtime.model_file import format as names

FILL = node("ConstantOfShape", ["size"], ["far"])
IMAGE = block(5, tensor("image", FLOAT, [1, 1, 1], bytes(4)))
RULES = FORMAT_1 / "tiny-rules.onnx"
LIMIT = "above the limit of 2^20, 16 times the largest stored tensor"


def direct() -> dict[str, bytes]:
    """Parts of a graph where a constant asks for far more than the file holds."""
    size, one = whole("size", 2**40), whole("one", 1)
    bounds = scalar("from", 0) + scalar("to", 2**40) + scalar("step", 1)
    tiny_steps = scalar("from", 0.0) + scalar("to", 1.0) + scalar("step", 1e-12)
    counting = node("Range", ["from", "to", "step"], ["far"])
    values = scalar("depth", 2**36) + whole("values", 0, 1)
    return {
        "ConstantOfShape": size + FILL,
        "ConstantOfShape, four factors": whole("size", *[2**9] * 4) + FILL,
        "Expand": one + size + node("Expand", ["one", "size"], ["far"]),
        "Expand of what comes in": size + node("Expand", ["n_known", "size"], ["far"]),
        "Tile": one + size + node("Tile", ["one", "size"], ["far"]),
        "Range": bounds + counting,
        "Range in tiny steps": tiny_steps + counting,
        "Pad": one + whole("pads", 0, 2**36) + node("Pad", ["one", "pads"], ["far"]),
        "Resize": IMAGE
        + whole("sizes", 1, 1, 2**36)
        + node("Resize", ["image", "", "", "sizes"], ["far"]),
        "OneHot": one + values + node("OneHot", ["one", "depth", "values"], ["far"]),
        "HannWindow": scalar("size", 2**36) + node("HannWindow", ["size"], ["far"]),
        "Conv": IMAGE + node("Conv", ["image"] * 2, ["far"], integers("pads", [2**30] * 2)),
    }


def computed() -> dict[str, bytes]:
    """The same, with a number that the graph computes from constants."""
    some = whole("some", 2**20)
    along = integer("axis", 0)
    doubling = [node("Add", [f"s{i}"] * 2, [f"s{i + 1}"]) for i in range(16)]
    text = number(1, 1) + number(2, TEXT) + block(6, str(2**40)) + block(8, "text")
    constant = with_tensor("value", tensor("", INT, [1], struct.pack("<q", 2**40)))
    parts = {
        "a product": some + node("Mul", ["some", "some"], ["size"]),
        "a product of products": whole("some", 2**12)
        + node("Mul", ["some"] * 2, ["more"])
        + node("Mul", ["more"] * 2, ["size"]),
        "a sum of sums": whole("s0", 2**20) + b"".join(doubling) + node("Abs", ["s16"], ["size"]),
        "a joined shape": some + node("Concat", ["some"] * 2, ["size"], along),
        "a gathered shape": some
        + whole("rows", 0, 0)
        + node("Gather", ["some", "rows"], ["size"]),
        "a power": whole("two", 2) + whole("forty", 40) + node("Pow", ["two", "forty"], ["size"]),
        "a text": block(5, text) + node("Cast", ["text"], ["size"], integer("to", INT)),
        "a node": node("Constant", [], ["size"], constant),
        "a list": node("Constant", [], ["size"], integers("value_ints", [2**18] * 2)),
        "shapes of the table": node("Shape", ["item_table"], ["shape"])
        + node("Concat", ["shape"] * 4, ["size"], along),
    }
    return {f"ConstantOfShape of {name}": nodes + FILL for name, nodes in parts.items()}


def huge_shapes() -> list[Case]:
    """ORT allocates these while it loads the file, or at the first answer."""
    grown = direct() | computed()
    late = node("Mul", ["q", "q"], ["size"]) + whole("p", 2**20) + node("Identity", ["p"], ["q"])
    return [
        *(Case(f"huge: {name}", adding(nodes), LIMIT) for name, nodes in grown.items()),
        Case("huge: in a branch", in_branch(lambda b: grown["ConstantOfShape"] + b), LIMIT),
        Case("huge: nodes in another order", adding(late, FILL), "Mul before 'q', which it reads"),
    ]


def too_much() -> list[Case]:
    """More than a walk may read."""

    def many(n: int, field: bytes) -> bytes:
        """One after the other, with a number for `_first_`, and the next one for `_other_`."""
        number_of = [b"i%06d" % i for i in range(n + 1)]
        return b"".join(
            field.replace(b"_first_", number_of[i]).replace(b"_other_", number_of[i + 1])
            for i in range(n)
        )

    start = node("Identity", ["n_known"], ["i000000"])
    chain = start + many(200_000, node("Identity", ["_first_"], ["_other_"]))
    some = many(3_000, node("Identity", ["n_known"], ["_first_"]))
    others = some.replace(b"i00", b"j00")
    split = in_graph(lambda graph: edited_branch(graph, lambda b: others + b) + some)
    deep = node("Identity", ["n_known"], ["leaf"])
    for _ in range(500):
        deep = node("If", ["yes"], ["leaf"], with_graph("then_branch", deep))
    deep = block(5, tensor("yes", BOOL, [], b"\x01")) + deep
    fields, nodes = "more than 100000 fields in the file", "nodes, above the limit of 5000"
    axes = tensor("deep", FLOAT, [2**30] * 10_000, b"")
    wide = node("Max", ["n_known"] * 150_000, ["far"])
    return [
        Case("200,000 nodes", adding(chain), fields),
        Case("6,000 nodes", adding(some, others), f"6084 {nodes}"),
        Case("6,000 nodes, half of them in a branch", split, nodes),
        Case("150,000 inputs of a node", adding(wide), fields),
        Case("150,000 tensors", adding(many(150_000, scalar("_first_", 0))), fields),
        Case("150,000 entries", in_model(lambda m: m + block(14, b"") * 150_000), fields),
        Case("10,000 axes", adding(block(5, axes)), "the tensor 'deep' of shape"),
        Case("500 levels", adding(deep), "If inside then_branch"),
    ]


def wrong_sizes() -> list[Case]:
    """A catalogue whose parts do not fit each other."""

    def table_of(rows: int) -> bytes:
        raw = bytes(4 * WIDTH * rows)
        return in_tensor("item_table", lambda _: tensor("item_table", FLOAT, [rows, WIDTH], raw))

    def without_text(name: str, text: str) -> bytes:
        def edit(stored: bytes) -> bytes:
            return edited_number(without(stored, 6, text.encode()), 1, N_ROWS - 1)

        return in_tensor(name, edit)

    def another(entry: bytes) -> Edit:
        return lambda attribute: attribute + entry

    key, row = in_dictionary("keys_strings", another(block(9, "one more"))), another(number(8, 33))
    ids, facts = "ids and rows for 32 items", '"string", "n_items": 32'
    codes = tensor("item_codes", BYTE, [30, 1, WIDTH], bytes(30 * WIDTH))
    unnamed = in_graph(lambda graph: graph.replace(b"item_ids", b"item_idz"))
    return [
        *misfits(),
        Case("a row less", table_of(N_ROWS - 1), "'item_table' of shape [32, 16] for 32 items"),
        Case("a row more", table_of(N_ROWS + 1), "'item_table' of shape [34, 16] for 32 items"),
        Case(
            "a row of codes less",
            in_tensor("item_codes", lambda _: codes, INT8),
            "'item_codes' of shape [30, 1, 16] for 30 items",
        ),
        Case("an id less", without_text("item_ids", "sku-11"), "'item_ids' of shape [32] for"),
        Case("a title less", without_text("item_titles", "sku-11"), "'item_titles' of shape [32]"),
        Case("no ids", unnamed, "no tensor 'item_ids' of element type 8"),
        Case("a key more", key, f"[(33, 32)] {ids}"),
        Case("a value more", in_dictionary("values_int64s", row), f"[(32, 33)] {ids}"),
        Case("a number more", in_dictionary("keys_int64s", row, INT64), "[(31, 30)] ids and rows"),
        Case(
            "facts of fewer items",
            in_facts(names.MODEL_KEY, facts, '"string", "n_items": 31'),
            "'item_table' of shape [33, 16] for 31 items",
        ),
        Case(
            "facts of a text of items",
            in_facts(names.MODEL_KEY, facts, '"string", "n_items": "32"'),
            "n_items '32'",
        ),
    ]


def misfits() -> list[Case]:
    """A tensor whose shape is not that of its data."""
    raw = bytes(4 * N_ROWS)

    def declared(kind: int, *dims: int, raw: bytes = raw) -> bytes:
        return in_tensor("no_item", lambda _: tensor("no_item", kind, list(dims), raw))

    files = {
        "a shape larger than its data": declared(FLOAT, N_ROWS, 2),
        "a shape smaller than its data": declared(FLOAT, N_ROWS - 1),
        "a shape of -33": declared(FLOAT, -N_ROWS),
        "a shape of 2^32 x 2^32": declared(FLOAT, 2**32, 2**32, raw=b""),
        "a shape that overflows to its data": declared(FLOAT, 2**32 + 1, 2**32 + 1, N_ROWS),
        "a shape of 0 x 2^62": declared(FLOAT, 0, 2**62, raw=b""),
        "an unknown element type": declared(99, N_ROWS),
        "numbers as text": declared(TEXT, N_ROWS),
    }
    listed = in_tensor("no_item", lambda stored: without(stored, 9) + block(4, raw))
    segment = in_tensor("no_item", lambda stored: stored + block(3, b""))
    return [
        *(Case(name, file, "the tensor 'no_item' of shape") for name, file in files.items()),
        Case("numbers that are not raw bytes", listed, "a tensor has float_data"),
        Case("a tensor in segments", segment, "a tensor has segment"),
        Case("sparse tensors", adding(block(15, b"")), "the graph has sparse_initializer"),
        Case("tags of 2^40 items each", _long_tags(), "Range for a tensor of up to 2^44 numbers"),
    ]


def _long_tags() -> bytes:
    """A file with rules, whose six tags have far more items than there are."""
    rows = [0, *[2**40] * 6, 0]
    raw = struct.pack("<8q", *rows)
    return in_tensor("tag_lengths", lambda _: tensor("tag_lengths", INT, [8], raw), RULES)
