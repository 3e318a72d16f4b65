"""What `attnrec-recommend` does once nothing speaks against it."""

import json
import re
import sys
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from attnrec.cli.console import (
    out,
    say,
)
from attnrec.cli.file_ids import FileIds, counts, number
from attnrec.cli.json_lines import (
    Reasons,
    answer_lines,
    as_dict,
    reasons_for,
    unknown_in,
    unknown_user,
)
from attnrec.runtime import Recommendations, Recommender, SimilarItems


def recommend_and_print(
    file: Path,
    k: int,
    *,
    history: str | None,
    exclude: str | None,
    candidates: str | None,
    user: str | None,
    user_tags: str | None,
    timestamps: str | None,
    request_time: int | None,
    similar: str | None,
    why: bool,
    as_json: bool,
) -> None:
    """Answer one history, many JSON lines, or for one item those most like it."""
    recommender = Recommender.load(file)
    ids = FileIds(recommender)
    if similar is not None:
        _show(recommender.similar(ids.one(similar), k), as_json=as_json)
        return
    texts = {"exclude": exclude, "candidates": candidates}
    lists: dict[str, Any] = {
        name: ids.listed(text) for name, text in texts.items() if text is not None
    }
    who = _who(recommender, user, user_tags, timestamps, request_time)
    if history is None:
        if sys.stdin.isatty():
            raise ValueError(f"give --history {ids.as_option}, or JSON lines on standard input")
        if unknown := ids.unknown(lists):
            _say_known(lists, unknown)
        answer_lines(recommender, ids, sys.stdin, {"k": k, "why": why, **lists, **who})
        return
    asked = ids.listed(history)
    answer = recommender.recommend(asked, k, **lists, **who)
    reasons = reasons_for(recommender, asked, answer, who) if why else None
    lists = {"history": asked} | lists
    unknown = unknown_in(ids, lists, answer)
    unknown_id = unknown_user(ids, who.get("user"))
    _show(answer, reasons, unknown | unknown_id, as_json=as_json)
    if unknown or not as_json:
        _say_known(lists, unknown)
    if unknown_id:
        say(f"--user: the file does not know {who['user']!r}: it is answered like no user")
    if unknown and (whole := ids.with_comma(history)) is not None:
        line = json.dumps({"history": [whole]}, ensure_ascii=False)
        say(f"ask for ids with commas in JSON lines, such as {line}")
    if not as_json and not answer.n_known:
        say("no known item in the history: this is the answer to a newcomer")


def _who(
    recommender: Recommender,
    user: str | None,
    user_tags: str | None,
    timestamps: str | None,
    request_time: int | None,
) -> dict[str, Any]:
    """Who asks and when, as far as it was said."""
    who: dict[str, Any] = {}
    if user is not None:
        is_number = recommender.info.user_id_type == "int64"
        who["user"] = number(user, "user") if is_number else user
    if user_tags is not None:
        who["user_tags"] = [tag.strip() for tag in user_tags.split(",")] if user_tags else []
        if "" in who["user_tags"]:
            raise ValueError(f"{user_tags[:60]!r} has an empty tag; leave that comma out")
    if timestamps is not None:
        who["timestamps"] = _times(timestamps)
    if request_time is not None:
        who["request_time"] = request_time
    return who


def _show(
    answer: Recommendations | SimilarItems,
    reasons: list[Reasons] | None = None,
    unknown: dict[str, list[Any]] | None = None,
    *,
    as_json: bool,
) -> None:
    if as_json:
        print(json.dumps(as_dict(answer, reasons, unknown)))
    else:
        out.print(_table(answer, reasons))


def _say_known(lists: dict[str, list[Any]], unknown: dict[str, list[Any]]) -> None:
    for line in counts({name: given for name, given in lists.items() if given}, unknown):
        say(f"--{line}")


def _times(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if wrong := [part for part in parts if not re.fullmatch("-?[0-9]{1,18}", part)]:
        raise ValueError(f"{wrong[0][:60]!r} among the timestamps is no number of Unix seconds")
    return [int(part) for part in parts]


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
        f"{event.get('title') or event['item_id']} ({event['share']:.0%})" for event in events
    )
    return f"because of {', '.join(named)}"
