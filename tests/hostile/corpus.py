"""Crafted model files: each is sound but for one thing, and sealed, for anyone can seal.

They are made from committed files of format 1, with the standard library alone.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from writer import (
    BOOL, FLOAT, INT, TEXT, Edit, block, edited, edited_number, integer, integers, node, number,
    operator, scalar, tensor, value, varint, whole, with_graph, with_tensor, without,
)  # fmt: skip

from attnrec.runtime import format as names

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"
STRING, INT64 = FORMAT_1 / "tiny-string.onnx", FORMAT_1 / "tiny-int64.onnx"
N_ITEMS, WIDTH = 32, 16  # of tiny-string


@dataclass(frozen=True)
class Case:
    """One crafted file."""

    name: str
    """What is wrong with it."""
    file: bytes
    """The whole file, sealed."""
    words: str
    """What its refusal says, among other things."""


def cases(directory: Path) -> list[Case]:
    """All of them. Those with external data expect to lie in `directory`, which gets the data."""
    return [
        *external_data(directory),
        *loops_and_functions(),
        *foreign_operators(),
        *huge_shapes(),
        *too_much(),
        *wrong_sizes(),
        *wrong_signatures(),
        *said_twice(),
        *broken_bytes(),
    ]


# --- the file under attack


def unsealed(path: Path = STRING) -> bytes:
    """The file without its last metadata entry."""
    entry = names.metadata_entry(names.SEAL_KEY, "0" * names.SEAL_LENGTH)
    return path.read_bytes()[: -len(entry)]


def in_model(edit: Edit) -> bytes:
    """The file with its outermost message changed."""
    return names.seal(edit(unsealed()))


def in_graph(edit: Edit, path: Path = STRING) -> bytes:
    """The file with its graph changed."""
    return names.seal(edited(unsealed(path), 7, edit))


def adding(*fields: bytes, path: Path = STRING) -> bytes:
    """The file with more fields in its graph."""
    return in_graph(lambda graph: graph + b"".join(fields), path)


def in_tensor(name: str, edit: Edit) -> bytes:
    """The file with a changed initializer."""
    return in_graph(lambda graph: edited(graph, 5, edit, block(8, name)))


def in_node(op_type: str, edit: Edit, path: Path = STRING) -> bytes:
    """The file with a changed node, the only one of its type."""
    return in_graph(lambda graph: edited(graph, 1, edit, block(4, op_type)), path)


def in_branch(edit: Edit) -> bytes:
    """The file with a changed branch of its `If`: the one without candidates."""

    return in_graph(lambda graph: edited_branch(graph, edit))


def edited_branch(graph: bytes, edit: Edit) -> bytes:
    """The graph with that branch changed."""

    def in_attribute(attribute: bytes) -> bytes:
        return edited(attribute, 6, edit)

    def in_if(content: bytes) -> bytes:
        return edited(content, 5, in_attribute, block(1, "then_branch"))

    return edited(graph, 1, in_if, block(4, "If"))


def in_dictionary(attribute: str, edit: Edit, path: Path = STRING) -> bytes:
    """The file with changed keys or values of its dictionary."""
    return in_node(
        "LabelEncoder", lambda content: edited(content, 5, edit, block(1, attribute)), path
    )


def in_facts(key: str, old: str, new: str) -> bytes:
    """The file with a piece of a metadata entry replaced."""

    def in_text(text: bytes) -> bytes:
        assert text.count(old.encode()) == 1
        return text.replace(old.encode(), new.encode())

    def in_entry(entry: bytes) -> bytes:
        return edited(entry, 2, in_text)

    return names.seal(edited(unsealed(), 14, in_entry, block(1, key)))


# --- reading other files


def external_data(directory: Path) -> list[Case]:
    """A table that is somewhere else."""
    outside, table = directory.parent / "outside.bin", 4 * WIDTH * (N_ITEMS + 1)
    outside.write_bytes(bytes(table))
    (directory / "symbolic.bin").symlink_to(outside)
    os.link(outside, directory / "hard.bin")
    places = {
        "above the directory": "../outside.bin",
        "by an absolute path": str(outside),
        "by a symbolic link": "symbolic.bin",
        "by a hard link": "hard.bin",
        "in memory": "*/_ORT_MEM_ADDR_/*",
    }

    def elsewhere(stored: bytes, place: str) -> bytes:
        return (
            without(stored, 9) + block(13, block(1, "location") + block(2, place)) + number(14, 1)
        )

    files = {
        name: in_tensor("item_table", lambda stored, place=place: elsewhere(stored, place))
        for name, place in places.items()
    }
    small = elsewhere(tensor("far", FLOAT, [1], bytes(4)), "hard.bin")
    files["of an attribute"] = adding(node("Constant", [], ["far"], with_tensor("value", small)))
    files["of a branch"] = in_branch(lambda branch: branch + block(5, small))
    files["without a place"] = in_tensor("item_table", lambda stored: stored + number(14, 1))
    return [Case(f"data {name}", file, "external data") for name, file in files.items()]


# --- never coming back


def loops_and_functions() -> list[Case]:
    """Sub-graphs and local functions."""
    yes = block(5, tensor("yes", BOOL, [], b"\x01"))
    body = sub_graph(
        "go", [("turn", INT, []), ("go", BOOL, []), ("n", INT, [1])], ("on", BOOL, [])
    )
    body += block(12, value("n", INT, [1]))
    loop = yes + node("Loop", ["", "yes", "k"], ["far"], with_graph("body", body))
    body = sub_graph("row", [("row", INT, [])], ("same", INT, []))
    scan = [with_graph("body", body), integer("num_scan_inputs", 1)]
    leaf, seed = (sub_graph("n_known", [], (name, INT, ["B"])) for name in ("leaf", "seed"))
    branches = [with_graph("then_branch", leaf), with_graph("else_branch", seed)]
    inner = yes + node("If", ["yes"], ["nested"], *branches)
    listed = block(1, "branches") + block(11, leaf) + number(20, 10)
    borrowed = block(1, "axis") + block(21, "axis_of_the_function") + number(20, 2)
    return [
        Case("an endless loop", adding(loop), "Loop with the sub-graph 'body'"),
        Case(
            "a scan", adding(node("Scan", ["item_ids"], ["all"], *scan), path=INT64), "Scan with"
        ),
        Case("an If inside an If", in_branch(lambda b: inner + b), "If inside then_branch with"),
        Case("a branch elsewhere", more_known(branches[0]), "Identity with the sub-graph 'then"),
        Case(
            "a list of sub-graphs",
            more_known(listed),
            "an attribute has unexpected content (field 11",
        ),
        Case("an attribute of a function", more_known(borrowed), "(field 21"),
        Case("functions that double 30 times", in_model(doubling_functions), "local functions"),
        Case(
            "training information", in_model(lambda m: m + block(20, b"")), "training information"
        ),
    ]


def sub_graph(
    source: str,
    inputs: list[tuple[str, int, list[str | int]]],
    output: tuple[str, int, list[str | int]],
) -> bytes:
    """A graph that hands on what it gets."""
    declared = b"".join(block(11, value(*one)) for one in inputs) + block(12, value(*output))
    return node("Identity", [source], [output[0]]) + block(2, "inner") + declared


def more_known(attribute: bytes) -> bytes:
    """The file with one more harmless node, which has this attribute."""
    return adding(node("Identity", ["n_known"], ["more"], attribute))


def doubling_functions(model: bytes) -> bytes:
    """A call of a function that calls the next one twice, which does the same, 30 levels deep."""
    functions = b""
    for level in range(31):
        below = f"F{level + 1}" if level < 30 else "Neg"
        calls = [
            operator(below, [source], [target], domain="twice" if level < 30 else "")
            for source, target in ("xy", "yz")
        ]
        function = block(1, f"F{level}") + block(4, "x") + block(5, "z") + block(10, "twice")
        function += b"".join(block(7, call) for call in calls)
        function += block(9, number(2, 23)) + block(9, block(1, "twice") + number(2, 1))
        functions += block(25, function)
    call = node("F0", ["n_known"], ["doubled"], domain="twice")
    model = edited(model, 7, lambda graph: graph + call)
    return model + block(8, block(1, "twice") + number(2, 1)) + functions


# --- operators of others


def foreign_operators() -> list[Case]:
    """Operators outside ONNX itself, but for the three that attnrec uses."""

    def importing(domain: str, version: int, *fields: bytes) -> bytes:
        opset = block(8, block(1, domain) + number(2, version))
        return in_model(lambda m: edited(m, 7, lambda g: g + b"".join(fields)) + opset)

    def old(opset: bytes) -> bytes:
        return number(2, 9)

    contrib = {"EPContext": [], "Gelu": ["scores"], "Irfft": ["scores"]}
    files = {
        f"com.microsoft.{op}": importing(
            "com.microsoft", 1, node(op, inputs, ["far"], domain="com.microsoft")
        )
        for op, inputs in contrib.items()
    }
    files["ai.onnx.ml.Normalizer"] = adding(
        node("Normalizer", ["scores"], ["far"], domain="ai.onnx.ml")
    )
    files["org.evil.Run"] = adding(node("Run", ["scores"], ["far"], domain="org.evil"))
    return [
        *(Case(name, file, f"the operator {name}; known:") for name, file in files.items()),
        Case("a foreign domain", importing("org.evil", 1), "the operator domains"),
        Case("a domain twice", importing("ai.onnx.ml", 3), "each once"),
        Case("another name of ONNX", importing("ai.onnx", 23), "the operator domains"),
        Case(
            "an old opset",
            in_model(lambda m: edited(m, 8, old, number(2, 23))),
            "opset 9, below 23",
        ),
    ]


# --- growing


def huge_shapes() -> list[Case]:
    """Constants that ask for far more than the file holds."""
    one = whole("one", 1)
    big = {power: whole(f"big_{power}", 2**power) for power in (12, 20, 31, 36, 40)}
    grow = {
        "ConstantOfShape": big[40] + node("ConstantOfShape", ["big_40"], ["far"]),
        "Expand": one + big[36] + node("Expand", ["one", "big_36"], ["far"]),
        "Expand of what comes in": big[36] + node("Expand", ["n_known", "big_36"], ["far"]),
        "Range": scalar("a", 0) + scalar("b", 2**40) + scalar("c", 1) + node("Range", ["a", "b", "c"], ["far"]),
        "Range in tiny steps": scalar("a", 0.0) + scalar("b", 1.0) + scalar("c", 1e-12) + node("Range", ["a", "b", "c"], ["far"]),
        "Tile": one + big[40] + node("Tile", ["one", "big_40"], ["far"]),
        "Pad": one + whole("pads", 0, 2**36) + node("Pad", ["one", "pads"], ["far"]),
        "Resize": block(5, tensor("image", FLOAT, [1, 1, 1, 1], bytes(4))) + whole("sizes", 1, 1, 2**18, 2**18) + node("Resize", ["image", "", "", "sizes"], ["far"]),
        "OneHot": whole("values", 0, 1) + scalar("depth", 2**36) + one + node("OneHot", ["one", "depth", "values"], ["far"]),
        "HannWindow": scalar("size", 2**36) + node("HannWindow", ["size"], ["far"]),
        "a shape of many factors": whole("shape", *[2**9] * 4) + node("ConstantOfShape", ["shape"], ["far"]),
        "a product": big[20] + node("Mul", ["big_20", "big_20"], ["p"]) + node("ConstantOfShape", ["p"], ["far"]),
        "a product of products": big[12] + node("Mul", ["big_12"] * 2, ["p"]) + node("Mul", ["p", "p"], ["q"]) + node("ConstantOfShape", ["q"], ["far"]),
        "a sum of sums": big[20] + b"".join(node("Add", [f"s{i}" if i else "big_20"] * 2, [f"s{i + 1}"]) for i in range(16)) + node("ConstantOfShape", ["s16"], ["far"]),
        "a joined shape": big[20] + node("Concat", ["big_20"] * 2, ["p"], integer("axis", 0)) + node("ConstantOfShape", ["p"], ["far"]),
        "a gathered shape": big[20] + whole("zeros", 0, 0) + node("Gather", ["big_20", "zeros"], ["p"]) + node("ConstantOfShape", ["p"], ["far"]),
        "a computed power": whole("two", 2) + whole("forty", 40) + node("Pow", ["two", "forty"], ["p"]) + node("ConstantOfShape", ["p"], ["far"]),
        "a number from text": block(5, block(6, str(2**40)) + number(1, 1) + number(2, TEXT) + block(8, "text")) + node("Cast", ["text"], ["p"], integer("to", INT)) + node("ConstantOfShape", ["p"], ["far"]),
        "a node that is a constant": node("Constant", [], ["p"], with_tensor("value", tensor("", INT, [1], struct.pack("<q", 2**40)))) + node("ConstantOfShape", ["p"], ["far"]),
        "a list that is a constant": node("Constant", [], ["p"], integers("value_ints", [2**18, 2**18])) + node("ConstantOfShape", ["p"], ["far"]),
        "the shape of the table": node("Shape", ["item_table"], ["p"]) + node("Concat", ["p"] * 4, ["q"], integer("axis", 0)) + node("ConstantOfShape", ["q"], ["far"]),
        "Conv": block(5, tensor("image", FLOAT, [1, 1, 1], bytes(4))) + node("Conv", ["image", "image"], ["far"], integers("pads", [2**30, 2**30])),
    }  # fmt: skip
    limit = "above the limit of 2^20, 16 times the largest stored tensor"
    return [
        *(Case(f"huge: {name}", adding(nodes), limit) for name, nodes in grow.items()),
        Case("huge: in a branch", in_branch(lambda b: grow["ConstantOfShape"] + b), limit),
        Case("values before they are made", adding(node("Mul", ["q", "q"], ["p"]) + big[20] + node("Identity", ["big_20"], ["q"])), "Mul before 'q'"),
    ]  # fmt: skip


def too_much() -> list[Case]:
    """More than a walk should look at."""

    def many(n: int, field: bytes) -> bytes:
        """One after the other, each with its own number for `first`, the next one for `other`."""
        number_of = [b"i%06d" % i for i in range(n + 1)]
        return b"".join(
            field.replace(b"_first_", number_of[i]).replace(b"_other_", number_of[i + 1])
            for i in range(n)
        )

    start = node("Identity", ["n_known"], ["i000000"])
    chain = start + many(200_000, node("Identity", ["_first_"], ["_other_"]))
    some = many(3_000, node("Identity", ["n_known"], ["_first_"]))
    others = some.replace(b"\x07i00", b"\x07j00")
    deep, yes = some[:0], block(5, tensor("yes", BOOL, [], b"\x01"))
    for _ in range(500):
        branches = [with_graph("then_branch", deep), with_graph("else_branch", b"")]
        deep = node("If", ["yes"], ["leaf"], *branches)
    fields, nodes = "more than 100000 fields in the file", "nodes, above the limit of 5000"
    axes = tensor("deep", FLOAT, [2**30] * 10_000, b"")
    return [
        Case("200,000 nodes", adding(chain), fields),
        Case("6,000 nodes", adding(some, others), f"6084 {nodes}"),
        Case(
            "nodes in a branch",
            in_graph(lambda g: edited_branch(g, lambda b: others + b) + some),
            nodes,
        ),
        Case(
            "150,000 inputs of a node", adding(node("Max", ["n_known"] * 150_000, ["far"])), fields
        ),
        Case("150,000 tensors", adding(many(150_000, scalar("_first_", 0))), fields),
        Case("150,000 entries", in_model(lambda m: m + block(14, b"") * 150_000), fields),
        Case("10,000 axes", adding(block(5, axes)), "the tensor 'deep' of shape"),
        Case("500 levels", adding(yes + deep), "If inside then_branch"),
    ]


# --- another size than it says


def wrong_sizes() -> list[Case]:
    """Tables, dictionaries and facts that do not fit each other, tensors that do not fit bytes."""
    row = 4 * WIDTH

    def reshaped(rows: int, raw: bytes) -> Edit:
        return lambda stored: tensor("item_table", FLOAT, [rows, WIDTH], raw)

    def one_more_key(attribute: bytes) -> bytes:
        return attribute + block(9, "one more")

    def one_more_value(attribute: bytes) -> bytes:
        return attribute + number(8, 33)

    def one_id_less(stored: bytes) -> bytes:
        return edited_number(without(stored, 6, b"sku-11"), 1, N_ITEMS)

    def dims(*axes: int) -> bytes:
        return in_tensor("no_item", lambda s: tensor("no_item", FLOAT, list(axes), bytes(4 * 33)))

    table = "'item_table' of shape"
    misfit = "the tensor 'no_item' of shape"
    ids = "ids and rows for 32 items"
    return [
        Case("a table with a row less", in_tensor("item_table", reshaped(N_ITEMS, bytes(row * N_ITEMS))), table),
        Case("a table with a row more", in_tensor("item_table", reshaped(N_ITEMS + 2, bytes(row * (N_ITEMS + 2)))), table),
        Case("an id less", in_tensor("item_ids", one_id_less), "'item_ids' of shape [32] for 32 items"),
        Case("a title less", in_tensor("item_titles", lambda s: edited_number(without(s, 6, b"Title of 'sku-11'"), 1, N_ITEMS)), "'item_titles' of shape [32]"),
        Case("no ids", in_graph(lambda g: g.replace(b"item_ids", b"item_idz")), "no tensor 'item_ids' of element type 8"),
        Case("a key more", in_dictionary("keys_strings", one_more_key), f"[(33, 32)] {ids}"),
        Case("a value more", in_dictionary("values_int64s", one_more_value), f"[(32, 33)] {ids}"),
        Case("a key more among numbers", in_dictionary("keys_int64s", one_more_value, INT64), "[(31, 30)] ids and rows"),
        Case("facts of fewer items", in_facts(names.MODEL_KEY, '"string", "n_items": 32', '"string", "n_items": 31'), "of shape [33, 16] for 31 items"),
        Case("facts of a text of items", in_facts(names.MODEL_KEY, '"string", "n_items": 32', '"string", "n_items": "32"'), "'32' items"),
        Case("facts of no titles", in_facts(names.MODEL_KEY, '"has_titles": true', '"has_titles": false'), "the outputs"),
        Case("facts of other ids", in_facts(names.MODEL_KEY, '"id_type": "string"', '"id_type": "int64"'), "the inputs"),
        Case("a shape larger than its data", dims(33, 2), misfit),
        Case("a shape smaller than its data", dims(32), misfit),
        Case("a shape of -1", dims(-33), misfit),
        Case("a shape that overflows", dims(2**32, 2**32), misfit),
        Case("a shape that overflows to the size of its data", dims(2**31 + 1, 2**31 + 1, 33), misfit),
        Case("a shape of 0 and much", in_tensor("no_item", lambda s: tensor("no_item", FLOAT, [0, 2**62], b"")), misfit),
        Case("an unknown element type", in_tensor("no_item", lambda s: tensor("no_item", 99, [33], bytes(4 * 33))), "element type 99"),
        Case("numbers as text", in_tensor("no_item", lambda s: tensor("no_item", TEXT, [33], bytes(4 * 33))), misfit),
        Case("numbers that are not raw bytes", in_tensor("no_item", lambda s: without(s, 9) + block(4, bytes(4 * 33))), "not raw bytes"),
        Case("a tensor in segments", in_tensor("no_item", lambda s: s + block(3, b"")), "a tensor has unexpected content (field 3"),
        Case("sparse tensors", adding(block(15, b"")), "sparse initializers"),
    ]  # fmt: skip


# --- other inputs and outputs


def wrong_signatures() -> list[Case]:
    """What goes in and comes out is in the contract."""

    def declared(field: int, name: str, *new: bytes) -> bytes:
        def edit(graph: bytes) -> bytes:
            return without(graph, field, block(1, name)) + b"".join(block(field, v) for v in new)

        return in_graph(edit)

    def outputs(*new: tuple[str, int, list[str | int]]) -> bytes:
        def edit(graph: bytes) -> bytes:
            return without(graph, 12) + b"".join(block(12, value(*one)) for one in new)

        return in_graph(edit)

    items, scores, n_known, titles = (
        ("items", TEXT, ["B", "K"]), ("scores", FLOAT, ["B", "K"]), ("n_known", INT, ["B"]),
        ("titles", TEXT, ["B", "K"]),
    )  # fmt: skip
    files = {
        "inputs": {
            "no k": declared(11, "k"),
            "another one": adding(block(11, value("basket", INT, ["B"]))),
            "k as text": declared(11, "k", value("k", TEXT, [1])),
            "k as a table": declared(11, "k", value("k", INT, [1, 1])),
            "a k without a shape": declared(11, "k", block(1, "k") + block(2, block(1, number(1, INT)))),
            "k without a type": declared(11, "k", block(1, "k") + block(2, block(1, b""))),
            "k twice": adding(block(11, value("k", INT, [1]))),
            "another order": declared(11, "history", value("history", TEXT, ["B", "T"])),
        },
        "outputs": {
            "no titles": outputs(items, scores, n_known),
            "another one": outputs(items, scores, n_known, titles, ("TopK_50:1", INT, ["B", "K"])),
            "another order": outputs(scores, items, n_known, titles),
            "scores of double": outputs(items, ("scores", 11, ["B", "K"]), n_known, titles),
            "items as a vector": outputs(("items", TEXT, ["B"]), scores, n_known, titles),
            "items as numbers": outputs(("items", INT, ["B", "K"]), scores, n_known, titles),
        },
    }  # fmt: skip
    found = [
        Case(f"{kind}: {name}", file, f"the {kind} [")
        for kind, some in files.items()
        for name, file in some.items()
    ]
    other = in_facts(names.MODEL_KEY, '"inputs": ["history", ', '"inputs": ["basket", "history", ')
    newer = in_facts(names.FORMAT_KEY, "1", "2")
    return [
        *found,
        Case("facts of another input", other, "the inputs ["),
        Case(
            "a newer format", newer, "has format '2', this attnrec reads up to format 1: upgrade"
        ),
    ]


# --- saying something twice, where others read the other one


def said_twice() -> list[Case]:
    """Protobuf joins, or takes the last; checkers that take the first see another file."""
    fact = block(14, block(1, names.FORMAT_KEY) + block(2, "1"))
    again = block(5, tensor("no_item", FLOAT, [N_ITEMS + 1], bytes(4 * (N_ITEMS + 1))))
    return [
        Case("two graphs", in_model(lambda m: m + block(7, b"")), "the model has unexpected content (field 7 twice)"),
        Case("two entries", in_model(lambda m: m + fact), "two metadata entries 'attnrec.format'"),
        Case("two initializers", adding(again), "two values 'no_item'"),
        Case("an initializer for an input", adding(whole("k", 5)), "two values 'k'"),
        Case("two nodes for a value", adding(node("Identity", ["n_known"], ["n_known"])), "two values 'n_known'"),
        Case("two types of a node", in_node("TopK", lambda c: c + block(4, "TopK")), "a node has unexpected content (field 4 twice)"),
        Case("two tensors of a constant", adding(node("Constant", [], ["c"], with_tensor("value", tensor("", INT, [1], bytes(8))) + block(5, b""))), "field 5 twice"),
        Case("two shapes of an input", adding(block(11, value("k", INT, [1]) + block(2, b""))), "field 2 twice"),
    ]  # fmt: skip


# --- bytes that are no message


def broken_bytes() -> list[Case]:
    """Where the encoding itself is wrong, or only unusual: then others may read it otherwise."""

    def ending(field: bytes) -> bytes:
        return in_node("TopK", lambda content: content + field)

    inner = {
        "a group": varint(9 << 3 | 3),
        "wire type 7": varint(3 << 3 | 7),
        "field 0": number(0, 1),
        "field 1000": block(1000, b""),
        "a name that is a number": number(3, 1),
        "a tag cut short": b"\x80",
        "a length cut short": b"\x1a\x80",
        "a length beyond the end": b"\x1a\x7f",
        "a length of 2^63": b"\x1a" + varint(2**63),
        "a number of 11 bytes": b"\x1a" + b"\x80" * 10 + b"\0",
        "a number of 70 bits": b"\x1a" + b"\xff" * 9 + b"\x7f",
    }
    found = {name: ending(field) for name, field in inner.items()}
    found["a run cut short"] = in_dictionary("keys_strings", lambda a: a + b"\x4a\x09ab")
    found["a run of long tags"] = in_dictionary("keys_strings", lambda a: a + b"\xca\x00\x00")
    found["a number of a run cut short"] = in_dictionary(
        "values_int64s", lambda a: a + b"\x40\x80"
    )
    found["a number of a run of 11 bytes"] = in_dictionary(
        "values_int64s", lambda a: a + b"\x40" + b"\x80" * 10 + b"\0"
    )
    found["packed numbers"] = in_dictionary("values_int64s", lambda a: a + block(8, b"\1"))
    return [Case(f"bytes: {name}", file, "export it again") for name, file in found.items()]
