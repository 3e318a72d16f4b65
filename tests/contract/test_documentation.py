"""Every model and every setting is documented."""

import ast
import inspect
import re
import sys

import pytest

from attnrec.train.models import MODELS

SOURCE = re.compile(r"\b(19|20)\d\d\b|baseline|tutorials on attention")
"""The year of a paper, or another source."""


@pytest.mark.parametrize("name", MODELS)
def test_a_model_documents_what_it_computes_and_its_source(name: str) -> None:
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
