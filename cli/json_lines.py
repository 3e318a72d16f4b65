"""Questions and answers of `attnrec-recommend` as JSON, a line each."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from attnrec.cli.console import fail
from attnrec.cli.file_ids import FileIds
from attnrec.runtime import ModelFileError, Recommendations, Recommender, SimilarItems
from attnrec.runtime.arguments import Ids
from attnrec.runtime.model_file.format import CALLER_INPUTS

_MOST_REASONS = 3
_LISTS = ("history", "exclude", "candidates")

Reasons = list[dict[str, Any]]
"""Events that speak for an item, the strongest first: item_id, title, share."""


def answer_lines(
    recommender: Recommender, ids: FileIds, lines: Iterable[str], defaults: Mapping[str, Any]
) -> None:
    """One JSON answer per line; a bad line gets its number and the reason, and we go on.

    defaults: fields of every line that does not have them itself.
    """
    n_lines = n_bad = 0
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        n_lines += 1
        try:
            answer = _answer_line(recommender, ids, line, defaults)
        except (ValueError, TypeError) as error:
            n_bad += 1
            answer = {"line": place, "error": str(error)}
        print(json.dumps(answer), flush=True)
    if not n_lines:
        raise ValueError(
            f"standard input had no lines; give --history {ids.as_option}, or JSON lines such as "
            f"{ids.as_line}"
        )
    if n_bad:
        fail(f"{n_bad} of {n_lines} lines could not be answered")


def _answer_line(
    recommender: Recommender, ids: FileIds, line: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    known = {*_LISTS, "k", "exclude_seen", "why", *CALLER_INPUTS}
    if isinstance(request, dict) and (unknown := sorted(request.keys() - known)):
        raise ValueError(f"unknown fields {unknown}; there are: {', '.join(sorted(known))}")
    if not isinstance(request, dict) or "history" not in request:
        raise ValueError(f'a line must be an object with "history", such as {ids.as_line}')
    request = {**defaults, **request}
    why, history = request.pop("why"), request.pop("history")
    if not isinstance(why, bool):
        raise ValueError(f"why must be true or false, not {why!r}")
    answer = recommender.recommend(history, **request)
    who = {name: request[name] for name in CALLER_INPUTS if name in request}
    reasons = reasons_for(recommender, history, answer, who) if why else None
    given = {"history": history, **request}
    lists = {name: given[name] for name in _LISTS if given.get(name)}
    try:
        unknown_ids = unknown_in(ids, lists, answer) | unknown_user(ids, request.get("user"))
    except ModelFileError:  # replaced since it was loaded; the answer counts all the same
        unknown_ids = {}
    return as_dict(answer, reasons, unknown_ids)


def unknown_in(
    ids: FileIds, lists: Mapping[str, list[Any]], answer: Recommendations
) -> dict[str, list[Any]]:
    """Ids of a question that the file does not know; most have no others than a history."""
    if lists.keys() <= {"history"} and answer.n_known == len(lists.get("history", ())):
        return {}
    return ids.unknown(lists)


def unknown_user(ids: FileIds, user: int | str | None) -> dict[str, list[Any]]:
    """The user of a question, where one is given that the file does not know."""
    return {} if user is None or ids.knows_user(user) else {"user": [user]}


def reasons_for(
    recommender: Recommender, history: Ids, answer: Recommendations, who: Mapping[str, Any]
) -> list[Reasons]:
    """For each item the events that speak most for it, with their share of all that do."""
    reasons = []
    for item_id in answer.item_ids:
        explanation = recommender.explain(history, item_id, **who)
        strongest = explanation.strongest(_MOST_REASONS)
        events = [{"item_id": explanation.history[i], "share": share} for i, share in strongest]
        if explanation.titles is not None:
            for event, (i, _) in zip(events, strongest, strict=True):
                event["title"] = explanation.titles[i]
        reasons.append(events)
    return reasons


def as_dict(
    answer: Recommendations | SimilarItems,
    reasons: list[Reasons] | None = None,
    unknown: Mapping[str, list[Any]] | None = None,
) -> dict[str, Any]:
    """An answer, with reasons if asked for, and the ids that are unknown if there are any."""
    values = answer.to_dict()
    if reasons is not None:
        values["why"] = reasons
    return values | {"unknown": dict(unknown)} if unknown else values
