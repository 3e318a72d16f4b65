"""Dataclasses that hold arrays compare by identity: `==` of arrays has no truth value."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARRAYS = {"NDArray", "ndarray", "IdArray", "Tensor", "ItemIds", "Constant", "_Numbers"}


def dataclasses_in(path: Path) -> Iterator[tuple[str, ast.ClassDef, ast.expr]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef):
            for decorator in node.decorator_list:
                if "dataclass" in ast.unparse(decorator):
                    yield f"{path.relative_to(ROOT)}: {node.name}", node, decorator


def holds_an_array(node: ast.ClassDef) -> bool:
    fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
    names = [
        name
        for field in fields
        for name in ast.walk(field.annotation)
        if isinstance(name, (ast.Name, ast.Attribute))
    ]
    return any((name.id if isinstance(name, ast.Name) else name.attr) in ARRAYS for name in names)


@pytest.mark.parametrize("package", ["runtime", "train", "export", "cli"])
def test_dataclasses_of_arrays_are_compared_by_identity(package: str) -> None:
    found = {
        label: ast.unparse(decorator)
        for path in sorted((ROOT / package).rglob("*.py"))
        for label, node, decorator in dataclasses_in(path)
        if holds_an_array(node)
    }
    assert {label: how for label, how in found.items() if "eq=False" not in how} == {}
