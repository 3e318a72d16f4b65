"""Questions for examples in other languages, and how near they come to the answers of Python."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime

from attnrec.runtime.model_file.format import (
    CALLER_INPUTS,
    GOLDEN_KEY,
)
from attnrec.runtime.model_file.format import score_tolerance as tolerance_of

DATA = Path(__file__).parents[1] / "data"
APPS = ("string-fp32", "string-int8", "int64-fp32", "int64-int8")
FILES = (*APPS, *sorted(path.stem for path in (DATA / "format-1").glob("*.onnx")))

Question = dict[str, Any]
"""Inputs of the graph by their names, for one person."""


class Answer(NamedTuple):
    """Best first, without what stands past the last item."""

    item_ids: list[Any]
    scores: list[float]
    n_known: int | None = None


class Likeness(NamedTuple):
    """largest: difference of a score, as a share of the tolerance of its row."""

    largest: float
    overlap: float

    def __str__(self) -> str:
        return f"up to {self.largest:.3f} of the tolerance, overlap {self.overlap:.4f}"


def file_of(name: str) -> Path:
    return DATA / ("apps" if name in APPS else "format-1") / f"{name}.onnx"


def asked_of_python(name: str) -> tuple[list[Question], list[Answer]]:
    """The 200 questions for a file of tests/data/apps, and what Python answered."""
    id_type, profile = name.split("-")
    stored = json.loads((DATA / "apps/answers.json").read_text())[id_type]
    questions = [{**question, "k": 10} for question in stored["questions"]]
    return questions, [Answer(row["item_ids"], row["scores"]) for row in stored[profile]]


def golden_vectors(path: Path) -> tuple[list[Question], list[Answer]]:
    """The questions and answers that a file holds."""
    metadata = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    questions, answers = [], []
    numbers = json.loads(metadata.get("attnrec.rules", "{}")).get("numbers", {})
    for vector in json.loads(metadata[GOLDEN_KEY]):
        given = {name: vector[name] for name in ("history", "exclude", "candidates", "k")}
        # SideInputs for each row of a batch, of which there is one.
        given |= {name: vector[name][0] for name in CALLER_INPUTS if name in vector}
        given |= _rules(vector.get("rules"), numbers)
        found = [i for i, score in enumerate(vector["scores"]) if score is not None]
        questions.append(given)
        items, scores = ([vector[name][i] for i in found] for name in ("items", "scores"))
        answers.append(Answer(items, scores, vector["n_known"]))
    return questions, answers


def _rules(rules: dict[str, Any] | None, numbers: Iterable[str]) -> Question:
    """The same as inputs of the graph; only those that are not empty."""
    rules = rules or {}
    boost = rules.get("boost", {})
    given: Question = {name: rules.get(name) for name in ("require_all", "require_any", "forbid")}
    given |= {"boost": [*boost], "boost_by": [float(by) for by in boost.values()]}
    for name in ("at_least", "at_most"):
        bounds = rules.get(name)
        given[name] = bounds and [bounds.get(n) for n in numbers]
    return {name: values for name, values in given.items() if values}


def compare(found: Sequence[Answer], expected: Sequence[Answer]) -> Likeness:
    """Scores within the tolerance, and items equal but where Python's scores are nearly so."""
    assert len(found) == len(expected)
    largest, shared = 0.0, []
    for got, wanted in zip(found, expected, strict=True):
        assert len(got.item_ids) == len(wanted.item_ids)
        assert wanted.n_known in (None, got.n_known)
        if not wanted.item_ids:
            continue
        tolerance = tolerance_of(max(map(abs, wanted.scores)))
        difference = max(abs(a - b) for a, b in zip(got.scores, wanted.scores, strict=True))
        assert difference <= tolerance, (got, wanted)
        largest = max(largest, difference / tolerance)
        shared.append(len(set(got.item_ids) & set(wanted.item_ids)) / len(wanted.item_ids))
        score_of = dict(zip(wanted.item_ids, wanted.scores, strict=True))
        for item_id, score in zip(got.item_ids, wanted.scores, strict=True):
            # What is not in the list of Python may be as good as its last.
            own = score_of.get(item_id, wanted.scores[-1])
            assert abs(own - score) <= 2 * tolerance, (got, wanted)
    return Likeness(largest, sum(shared) / len(shared))


def as_json(value: Any) -> str:
    """For JavaScript, which would round whole numbers beyond 2^53: `{"int64": "9007..."}`."""

    def tagged(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: tagged(value) for name, value in part.items()}
        if isinstance(part, list):
            return [tagged(value) for value in part]
        return {"int64": str(part)} if type(part) is int else part

    return json.dumps(tagged(value))


def from_json(text: str) -> Any:
    """What `as_json` writes, and the answers of `ask.mjs`."""
    return json.loads(text, object_hook=lambda found: int(found["int64"]) if "int64" in found
                      else found)  # fmt: skip


def answers_of(rows: Sequence[dict[str, Any]]) -> list[Answer]:
    """From what `recommend` of the examples in JavaScript returns."""
    return [
        Answer([i["id"] for i in row["items"]], [i["score"] for i in row["items"]], row["nKnown"])
        for row in rows
    ]
