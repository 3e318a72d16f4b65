"""What `attnrec recommend` does once its options are checked: answers, printed or as JSON."""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from attnrec.cli.console import fail, out, say
from attnrec.cli.file_ids import FileIds, counts, number
from attnrec.cli.recommend.rules import FIELDS
from attnrec.runtime import ModelFileError, Recommendations, Recommender, SimilarItems
from attnrec.runtime.arguments import Ids
from attnrec.runtime.model_file.format import CALLER_INPUTS

_MOST_REASONS = 3
_LISTS = ("history", "exclude", "candidates")

Reasons = list[dict[str, Any]]
"""Events that speak for an item, the strongest first: item_id, title, share."""


@dataclass(frozen=True)
class Request:
    """The options of the command; None: not given."""

    history: str | None
    k: int
    exclude: str | None
    candidates: str | None
    user: str | None
    user_tags: str | None
    timestamps: str | None
    request_time: int | None
    why: bool
    similar: str | None
    rules: Mapping[str, Any]


def answer(file: Path, request: Request, *, as_json: bool) -> None:
    """Answer one history, many JSON lines, or for one item those most like it."""
    recommender = Recommender.load(file)
    ids = FileIds(recommender)
    if request.similar is not None:
        _show(recommender.similar(ids.one(request.similar), request.k), as_json=as_json)
        return
    texts = {"exclude": request.exclude, "candidates": request.candidates}
    lists = {name: ids.listed(text) for name, text in texts.items() if text is not None}
    side_inputs = _side_inputs(recommender, request)
    if request.history is not None:
        _answer_history(recommender, ids, request, lists, side_inputs, as_json=as_json)
        return
    if sys.stdin.isatty():
        raise ValueError(f"give --history {ids.as_option}, or JSON lines on standard input")
    if unknown := ids.unknown(lists):
        _print_known(lists, unknown)
    defaults = {"k": request.k, "why": request.why, **lists, **side_inputs, **request.rules}
    _answer_lines(recommender, ids, sys.stdin, defaults)


def _answer_history(
    recommender: Recommender,
    ids: FileIds,
    request: Request,
    lists: dict[str, Any],
    side_inputs: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    text = request.history or ""
    history: Any = ids.listed(text)
    found = recommender.recommend(history, request.k, **lists, **side_inputs, **request.rules)
    explained = {**side_inputs, "boost": request.rules.get("boost")}
    reasons = _reasons_for(recommender, history, found, explained) if request.why else None
    lists = {"history": history} | lists
    unknown = _unknown_in(ids, lists, found)
    user = side_inputs.get("user")
    unknown_user = _unknown_user(ids, user)
    _show(found, reasons, unknown | unknown_user, as_json=as_json)
    if unknown or not as_json:
        _print_known(lists, unknown)
    if found.unknown_tags:
        say(f"the file does not know the tags {', '.join(found.unknown_tags)}")
    if not as_json and found.n_allowed is not None and len(found) < request.k:
        say(f"the rules leave {found.n_allowed} items")
    if unknown_user:
        say(f"--user: the file does not know {user!r}: the answer is that for no user")
    if unknown and (whole := ids.with_comma(text)) is not None:
        line = json.dumps({"history": [whole]}, ensure_ascii=False)
        say(f"give ids with commas in JSON lines, such as {line}")
    if not as_json and not found.n_known:
        say("no known item in the history: this is the answer to an empty history")


def _side_inputs(recommender: Recommender, request: Request) -> dict[str, Any]:
    """The side inputs that are given."""
    found: dict[str, Any] = {}
    if request.user is not None:
        is_number = recommender.info.user_id_type == "int64"
        found["user"] = number(request.user, "user") if is_number else request.user
    if (tags := request.user_tags) is not None:
        found["user_tags"] = [tag.strip() for tag in tags.split(",")] if tags else []
        if "" in found["user_tags"]:
            raise ValueError(f"{tags[:60]!r} has an empty tag; leave that comma out")
    if request.timestamps is not None:
        found["timestamps"] = _times(request.timestamps)
    if request.request_time is not None:
        found["request_time"] = request.request_time
    return found


def _times(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if wrong := [part for part in parts if not re.fullmatch("-?[0-9]{1,18}", part)]:
        raise ValueError(f"{wrong[0][:60]!r} among the timestamps is no number of Unix seconds")
    return [int(part) for part in parts]


def _answer_lines(
    recommender: Recommender, ids: FileIds, lines: Iterable[str], defaults: Mapping[str, Any]
) -> None:
    """One JSON answer per line; a bad line is answered with its number and the reason.

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
    known = {*_LISTS, "k", "exclude_seen", "why", *CALLER_INPUTS, *FIELDS}
    if isinstance(request, dict) and (unknown := sorted(request.keys() - known)):
        raise ValueError(f"unknown fields {unknown}; there are: {', '.join(sorted(known))}")
    if not isinstance(request, dict) or "history" not in request:
        raise ValueError(f'a line must be an object with "history", such as {ids.as_line}')
    request = {**defaults, **request}
    why, history = request.pop("why"), request.pop("history")
    if not isinstance(why, bool):
        raise ValueError(f"why must be true or false, not {why!r}")
    answer = recommender.recommend(history, **request)
    side_inputs = {n: request[n] for n in (*CALLER_INPUTS, "boost") if n in request}
    reasons = _reasons_for(recommender, history, answer, side_inputs) if why else None
    given = {"history": history, **request}
    lists = {name: given[name] for name in _LISTS if given.get(name)}
    try:
        unknown_ids = _unknown_in(ids, lists, answer) | _unknown_user(ids, request.get("user"))
    except ModelFileError:  # replaced since it was loaded; the answer counts all the same
        unknown_ids = {}
    return _as_dict(answer, reasons, unknown_ids)


def _unknown_in(
    ids: FileIds, lists: Mapping[str, list[Any]], answer: Recommendations
) -> dict[str, list[Any]]:
    """Ids of a request that the file does not know; most requests have a history alone."""
    if lists.keys() <= {"history"} and answer.n_known == len(lists.get("history", ())):
        return {}
    return ids.unknown(lists)


def _unknown_user(ids: FileIds, user: int | str | None) -> dict[str, list[Any]]:
    """The user of a request, where one is given that the file does not know."""
    return {} if user is None or ids.knows_user(user) else {"user": [user]}


def _reasons_for(
    recommender: Recommender, history: Ids, answer: Recommendations, side_inputs: Mapping[str, Any]
) -> list[Reasons]:
    """For each item the events that speak most for it, with their share of all that do."""
    reasons = []
    for item_id in answer.item_ids:
        explanation = recommender.explain(history, item_id, **side_inputs)
        strongest = explanation.strongest(_MOST_REASONS)
        events: Reasons = [
            {"item_id": explanation.history[i], "share": share} for i, share in strongest
        ]
        if explanation.titles is not None:
            for event, (i, _) in zip(events, strongest, strict=True):
                event["title"] = explanation.titles[i]
        lifts = (explanation.boosts or {}).items()
        reasons.append([*events, *({"boost": tag, "added": added} for tag, added in lifts)])
    return reasons


def _as_dict(
    answer: Recommendations | SimilarItems,
    reasons: list[Reasons] | None = None,
    unknown: Mapping[str, list[Any]] | None = None,
) -> dict[str, Any]:
    """An answer, with reasons if there are any, and the ids that are unknown likewise."""
    values = answer.to_dict()
    if reasons is not None:
        values["why"] = reasons
    return values | {"unknown": dict(unknown)} if unknown else values


def _show(
    answer: Recommendations | SimilarItems,
    reasons: list[Reasons] | None = None,
    unknown: dict[str, list[Any]] | None = None,
    *,
    as_json: bool,
) -> None:
    if as_json:
        print(json.dumps(_as_dict(answer, reasons, unknown)))
    else:
        out.print(_table(answer, reasons))


def _print_known(lists: dict[str, list[Any]], unknown: dict[str, list[Any]]) -> None:
    for line in counts({name: given for name, given in lists.items() if given}, unknown):
        say(f"--{line}")


def _table(answer: Recommendations | SimilarItems, reasons: list[Reasons] | None) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("", justify="right")
    table.add_column("item", overflow="fold")
    if answer.titles is not None:
        table.add_column("title", overflow="fold")
    table.add_column("score", justify="right")
    for place, (item_id, score) in enumerate(answer.pairs()):
        title = [] if answer.titles is None else [answer.titles[place]]
        # Text, not str: an id or a title with brackets is no markup.
        cells = [Text(cell) for cell in (str(place + 1), str(item_id), *title, f"{score:.3f}")]
        if reasons is not None and reasons[place]:
            cells[-2].append(f"\n  {_because_of(reasons[place])}", style="dim")
        table.add_row(*cells)
    return table


def _because_of(events: Reasons) -> str:
    named = (
        f"the boost of {event['boost']} ({event['added']:+.2f})"
        if "boost" in event
        else f"{event.get('title') or event['item_id']} ({event['share']:.0%})"
        for event in events
    )
    return f"because of {', '.join(named)}"
