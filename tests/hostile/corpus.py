"""Crafted files that read other files, loop, run foreign operators or contradict their facts.

Sizes are in `sizes.py`, much work in `work.py`.

Each is sound but for one thing, and sealed, so that only the check for that thing can refuse it.
They are made from committed files of format 1, with the standard library alone.
"""

import os
from pathlib import Path

from edits import (
    INT64,
    N_ROWS,
    WIDTH,
    Case,
    adding,
    in_branch,
    in_dictionary,
    in_facts,
    in_graph,
    in_model,
    in_node,
    in_tensor,
    with_attribute,
)
from sizes import huge_shapes, too_much, wrong_sizes
from work import much_work
from writer import (
    BOOL,
    FLOAT,
    INT,
    TEXT,
    Axes,
    block,
    edited,
    integer,
    node,
    number,
    operator,
    tensor,
    value,
    varint,
    whole,
    with_graph,
    with_tensor,
    without,
)

from attnrec.runtime.model_file import format as names

YES = block(5, tensor("yes", BOOL, [], b"\x01"))


def cases(directory: Path) -> list[Case]:
    """All of them. Those with external data are meant to lie in `directory`, where it is."""
    return [
        *external_data(directory),
        *loops_and_functions(),
        *foreign_operators(),
        *huge_shapes(),
        *too_much(),
        *much_work(),
        *wrong_sizes(),
        *wrong_inputs(),
        *wrong_outputs(),
        *duplicates(),
        *broken_bytes(),
    ]


def external_data(directory: Path) -> list[Case]:
    """A table that is somewhere else."""
    outside = directory.parent / "outside.bin"
    outside.write_bytes(bytes(4 * WIDTH * N_ROWS))
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
        entry = block(1, "location") + block(2, place)
        return without(stored, 9) + block(13, entry) + number(14, 1)

    files = {
        name: in_tensor("item_table", lambda stored, place=place: elsewhere(stored, place))
        for name, place in places.items()
    }
    small = elsewhere(tensor("far", FLOAT, [1], bytes(4)), "hard.bin")
    files["of an attribute"] = adding(node("Constant", [], ["far"], with_tensor("value", small)))
    files["of a branch"] = in_branch(lambda branch: branch + block(5, small))
    found = [Case(f"data {name}", file, "external_data") for name, file in files.items()]
    placeless = in_tensor("item_table", lambda stored: stored + number(14, 1))
    return [*found, Case("data without a place", placeless, "data_location")]


def sub_graph(
    source: str, inputs: list[tuple[str, int, Axes]], outputs: list[tuple[str, int, Axes]]
) -> bytes:
    """A graph that hands on one value."""
    declared = b"".join(block(11, value(*one)) for one in inputs)
    declared += b"".join(block(12, value(*one)) for one in outputs)
    return node("Identity", [source], [outputs[0][0]]) + block(2, "inner") + declared


def loops_and_functions() -> list[Case]:
    """Sub-graphs and local functions, as endless loops need them."""
    carried = [("n", INT, [1])]
    body = sub_graph(
        "go", [("turn", INT, []), ("go", BOOL, []), *carried], [("on", BOOL, []), *carried]
    )
    loop = YES + node("Loop", ["", "yes", "k"], ["far"], with_graph("body", body))
    body = with_graph("body", sub_graph("row", [("row", INT, [])], [("same", INT, [])]))
    scan = node("Scan", ["item_ids"], ["far"], body, integer("num_scan_inputs", 1))
    leaf, seed = (sub_graph("n_known", [], [(name, INT, ["B"])]) for name in ("leaf", "seed"))
    branches = [with_graph("then_branch", leaf), with_graph("else_branch", seed)]
    inner = YES + node("If", ["yes"], ["nested"], *branches)
    listed = with_attribute(block(1, "branches") + block(11, leaf) + number(20, 10))
    borrowed = with_attribute(block(1, "axis") + block(21, "axis") + number(20, 2))
    return [
        Case("an endless loop", adding(loop), "Loop with the sub-graph 'body'"),
        Case("a scan", adding(scan, path=INT64), "Scan with the sub-graph 'body'"),
        Case("an If inside an If", in_branch(lambda b: inner + b), "If inside then_branch with"),
        Case("a branch elsewhere", with_attribute(branches[0]), "Identity with the sub-graph"),
        Case("a list of sub-graphs", listed, "an attribute has graphs"),
        Case("an attribute of a function", borrowed, "an attribute has ref_attr_name"),
        Case("doubling functions", in_model(doubling_functions), "the model has functions"),
        Case("training", in_model(lambda m: m + block(20, b"")), "the model has training_info"),
    ]


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


def foreign_operators() -> list[Case]:
    """Operators outside ONNX itself, but for the three that attnrec uses."""

    def importing(domain: str, version: int, *nodes: bytes) -> bytes:
        opset = block(8, block(1, domain) + number(2, version))
        return in_model(lambda m: edited(m, 7, lambda g: g + b"".join(nodes)) + opset)

    found = []
    for op_type, inputs in {"EPContext": [], "Gelu": ["scores"], "Irfft": ["scores"]}.items():
        name = f"com.microsoft.{op_type}"
        added = node(op_type, inputs, ["far"], domain="com.microsoft")
        found.append(
            Case(name, importing("com.microsoft", 1, added), f"the operator {name}; known:")
        )
    for domain, op_type in (("ai.onnx.ml", "Normalizer"), ("org.evil", "Run")):
        added = node(op_type, ["scores"], ["far"], domain=domain)
        name = f"{domain}.{op_type}"
        found.append(Case(name, adding(added), f"the operator {name}; known:"))
    old = in_model(lambda m: edited(m, 8, lambda opset: number(2, 9), number(2, 23)))
    return [
        *found,
        Case("a foreign domain", importing("org.evil", 1), "'org.evil': 1}; known:"),
        Case("a domain twice", importing("ai.onnx.ml", 3), "3 imports of operators"),
        Case("another name of ONNX", importing("ai.onnx", 23), "'ai.onnx': 23}; known:"),
        Case("an old opset", old, "{'': 9, 'ai.onnx.ml': 4}; known: '' from 23"),
    ]


def wrong_inputs() -> list[Case]:
    """The contract fixes the inputs; a file may declare more, for later versions of attnrec."""

    def k_as(*declarations: bytes) -> bytes:
        def edit(graph: bytes) -> bytes:
            others = without(graph, 11, block(1, "k"))
            return others + b"".join(block(11, declared) for declared in declarations)

        return in_graph(edit)

    def order(graph: bytes) -> bytes:
        history = value("history", TEXT, ["B", "T"])
        return without(graph, 11, block(1, "history")) + block(11, history)

    files = {
        "no k": k_as(),
        "k as text": k_as(value("k", TEXT, [1])),
        "k as a table": k_as(value("k", INT, [1, 1])),
        "k without a shape": k_as(block(1, "k") + block(2, block(1, number(1, INT)))),
        "k without a type": k_as(block(1, "k") + block(2, block(1, b""))),
        "k twice": k_as(*[value("k", INT, [1])] * 2),
        "another order": in_graph(order),
        "one that the facts conceal": adding(block(11, value("user", TEXT, ["B"]))),
        "one that only the facts have": in_facts(names.MODEL_KEY, '"k"]', '"k", "user"]'),
        "a fact without k": in_facts(names.MODEL_KEY, ', "k"]', "]"),
        "facts of another type of ids": in_facts(names.MODEL_KEY, '"string"', '"int64"'),
    }
    newer = in_facts(names.FORMAT_KEY, "1", "2")
    return [
        *(Case(f"inputs: {name}", file, "the inputs [") for name, file in files.items()),
        Case(
            "a newer format", newer, "has format '2', this attnrec reads up to format 1: upgrade"
        ),
    ]


def wrong_outputs() -> list[Case]:
    """The contract fixes the outputs and their order."""

    def outputs(*new: tuple[str, int, Axes]) -> bytes:
        declared = b"".join(block(12, value(*one)) for one in new)
        return in_graph(lambda graph: without(graph, 12) + declared)

    table: Axes = ["B", "K"]
    items, scores, titles = (
        ("items", TEXT, table),
        ("scores", FLOAT, table),
        ("titles", TEXT, table),
    )
    n_known, rows = ("n_known", INT, ["B"]), ("TopK_50:1", INT, table)
    files = {
        "no titles": outputs(items, scores, n_known),
        "another one": outputs(items, scores, n_known, titles, rows),
        "another order": outputs(scores, items, n_known, titles),
        "scores of double": outputs(items, ("scores", 11, table), n_known, titles),
        "items as a vector": outputs(("items", TEXT, ["B"]), scores, n_known, titles),
        "items as numbers": outputs(("items", INT, table), scores, n_known, titles),
        "titles that the facts conceal": in_facts(
            names.MODEL_KEY, '"has_titles": true', '"has_titles": false'
        ),
    }
    return [Case(f"outputs: {name}", file, "the outputs [") for name, file in files.items()]


def duplicates() -> list[Case]:
    """Protobuf joins such fields, or takes the last; other readers take the first."""
    fact = block(14, block(1, names.FORMAT_KEY) + block(2, "1"))
    again = block(5, tensor("no_item", FLOAT, [N_ROWS], bytes(4 * N_ROWS)))
    same = node("Identity", ["n_known"], ["n_known"])
    type_again = in_node("TopK", lambda content: content + block(4, "TopK"))
    constant = with_tensor("value", tensor("", INT, [1], bytes(8))) + block(5, b"")
    declared = block(11, value("k", INT, [1]) + block(2, b""))
    return [
        Case("two graphs", in_model(lambda m: m + block(7, b"")), "the model has graph (twice)"),
        Case("two entries", in_model(lambda m: m + fact), "two metadata entries 'attnrec.format'"),
        Case("two initializers", adding(again), "two values 'no_item'"),
        Case("an initializer for an input", adding(whole("k", 5)), "two values 'k'"),
        Case("two nodes for a value", adding(same), "two values 'n_known'"),
        Case("two types of a node", type_again, "a node has op_type (twice)"),
        Case("two tensors of a constant", with_attribute(constant), "an attribute has t (twice)"),
        Case("two types of an input", adding(declared), "an input or output has type (twice)"),
    ]


def broken_bytes() -> list[Case]:
    """No protobuf at all, or an unusual one, which others may read otherwise."""
    ends_of_a_node = {
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
    ends_of_keys = {
        "a key cut short": b"\x4a\x09ab",
        "a tag of two bytes": b"\xca\x00\x00",
    }
    ends_of_values = {
        "a value cut short": b"\x40\x80",
        "a value of 11 bytes": b"\x40" + b"\x80" * 10 + b"\0",
        "packed values": block(8, b"\x01"),
    }
    files = {name: in_node("TopK", lambda c, e=e: c + e) for name, e in ends_of_a_node.items()}
    for attribute, ends in (("keys_strings", ends_of_keys), ("values_int64s", ends_of_values)):
        for name, end in ends.items():
            files[name] = in_dictionary(attribute, lambda content, end=end: content + end)
    return [Case(f"bytes: {name}", file, "export it again") for name, file in files.items()]
