"""What a reader finds at the top of every model, and at every one of its settings."""

import ast
import inspect
import re
import sys

import pytest

from attnrec.train.models import MODELS

SOURCE = re.compile(r"\b(19|20)\d\d\b|baseline|tutorials on attention")
"""The year of a paper, or where a model is from that has none."""


@pytest.mark.parametrize("name", MODELS)
def test_a_model_says_what_it_computes_and_where_it_is_from(name: str) -> None:
    text = sys.modules[MODELS[name].model.__module__].__doc__ or ""
    assert len(text) > 200, text
    assert SOURCE.search(text), text


@pytest.mark.parametrize("name", MODELS)
def test_every_setting_has_a_docstring(name: str) -> None:
    undocumented = []
    for kind in MODELS[name].config.__mro__[:-1]:
        (definition,) = ast.parse(inspect.getsource(kind)).body
        assert isinstance(definition, ast.ClassDef)
        body = definition.body
        for field, after in zip(body, [*body[1:], None], strict=True):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and not is_text:
                undocumented.append(ast.unparse(field.target))
    assert undocumented == []
