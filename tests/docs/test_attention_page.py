"""docs/attention.md prints what it says that it prints."""

import contextlib
import io
import math
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMPLE = re.compile(r"^```python\n(.*?)^```\n+```text\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_code_of_the_page_prints_what_the_page_shows() -> None:
    page = (ROOT / "docs" / "attention.md").read_text(encoding="utf-8")
    examples = EXAMPLE.findall(page)
    assert len(examples) == page.count("```python")
    namespace: dict[str, Any] = {}
    for code, shown in examples:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, namespace)
        assert printed.getvalue() == shown, code


def test_what_the_page_says_of_the_article_is_so() -> None:
    user, items = [1, 2, 3], [[4 + 3 * i, 5 + 3 * i, 6 + 3 * i] for i in range(5)]
    scores = [sum(a * b for a, b in zip(user, item, strict=True)) for item in items]
    assert scores == [32, 50, 68, 86, 104]
    largest = 1 / sum(math.exp(score - 44) for score in (32, 35, 38, 41, 44))
    assert largest > 0.9  # not 0.22
