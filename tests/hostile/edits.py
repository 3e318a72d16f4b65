"""One change to a committed file of format 1, sealed again: anyone can make a seal."""

from dataclasses import dataclass
from pathlib import Path

from writer import Edit, block, edited, node

from attnrec.runtime.model_file import format as names

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"
STRING, INT64 = FORMAT_1 / "tiny-string.onnx", FORMAT_1 / "tiny-int64.onnx"
INT8 = FORMAT_1 / "tiny-int8-blocks.onnx"  # 30 items
N_ROWS, WIDTH = 33, 16  # of the table of tiny-string: 32 items and row 0


@dataclass(frozen=True)
class Case:
    """A crafted file."""

    name: str
    """What is wrong with it."""
    file: bytes
    """The whole file, sealed."""
    words: str
    """Part of its refusal."""


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


def with_attribute(attribute: bytes) -> bytes:
    """The file with one more node, which does nothing, but has this attribute."""
    return adding(node("Identity", ["n_known"], ["more"], attribute))


def in_tensor(name: str, edit: Edit, path: Path = STRING) -> bytes:
    """The file with a changed initializer."""
    return in_graph(lambda graph: edited(graph, 5, edit, block(8, name)), path)


def in_node(op_type: str, edit: Edit, path: Path = STRING) -> bytes:
    """The file with a changed node, the only one of its type."""
    return in_graph(lambda graph: edited(graph, 1, edit, block(4, op_type)), path)


def in_dictionary(attribute: str, edit: Edit, path: Path = STRING) -> bytes:
    """The file with changed keys or values of its LabelEncoder."""
    name = block(1, attribute)
    return in_node("LabelEncoder", lambda content: edited(content, 5, edit, name), path)


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


def in_facts(key: str, old: str, new: str) -> bytes:
    """The file with the only such piece of a metadata entry replaced."""

    def in_text(text: bytes) -> bytes:
        assert text.count(old.encode()) == 1, text
        return text.replace(old.encode(), new.encode())

    def in_entry(entry: bytes) -> bytes:
        return edited(entry, 2, in_text)

    return names.seal(edited(unsealed(), 14, in_entry, block(1, key)))
