"""`attnrec-recommend`: ask a model file. Runs on a device: needs no training stack."""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from attnrec.cli.console import (
    Json,
    Quiet,
    Verbose,
    Version,
    fail,
    out,
    run_command,
    say,
    set_verbosity,
)
from attnrec.runtime import Recommendations, Recommender
from attnrec.runtime.arguments import Ids
from attnrec.runtime.format import CALLER_INPUTS

_MOST_REASONS = 3

Reasons = list[dict[str, Any]]
"""Events that speak for an item, the strongest first: item_id, title, share."""


def recommend(
    file: Annotated[Path, typer.Argument(help="Model file from attnrec-export.")] = Path(
        "attnrec-run/model.onnx"
    ),
    history: Annotated[
        str | None,
        typer.Option(help="Item ids, oldest first, separated by commas; '' for a newcomer."),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many items.")] = 10,
    exclude: Annotated[str, typer.Option(help="Item ids never to return.")] = "",
    candidates: Annotated[
        str | None, typer.Option(help="Item ids to choose from; default: the whole catalogue.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Who asks; only for files that know their users.")
    ] = None,
    user_tags: Annotated[
        str | None,
        typer.Option(help="What is known of the user, by commas; only for files that ask."),
    ] = None,
    timestamps: Annotated[
        str | None,
        typer.Option(help="Unix seconds of the history, by commas; only for files that ask."),
    ] = None,
    request_time: Annotated[
        int | None, typer.Option(help="Unix seconds of now, together with --timestamps.")
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", help="Say which events speak most for each item.")
    ] = False,
    similar: Annotated[
        str | None, typer.Option(help="Instead of a history: the items most like this one.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    version: Version = False,
) -> None:
    """Recommend what comes next.

    Give one history with --history, or many as JSON lines on standard input, such as

        {"history": ["85116", "22375"], "k": 5, "exclude": ["22492"], "why": true}

    which are answered line by line. Ids with commas in them need the second form.
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    if similar is not None and (history is not None or why):
        raise ValueError("--similar goes without --history and --why: it is about one item")
    if history is None and similar is None and sys.stdin.isatty():
        raise ValueError("give --history A,B,C, or JSON lines on standard input")
    recommender = Recommender.load(file)
    if similar is not None:
        _show(recommender.similar(_id(similar, recommender), k), None, as_json=as_json)
        return
    if history is None:
        _answer_lines(recommender, sys.stdin, k, why=why)
        return
    asked = _ids(history, recommender)
    who: dict[str, Any] = {
        "user": _user(user, recommender),
        "user_tags": None if user_tags is None else [tag for tag in user_tags.split(",") if tag],
        "timestamps": None if timestamps is None else _times(timestamps),
        "request_time": request_time,
    }
    answer = recommender.recommend(
        asked,
        k,
        exclude=_ids(exclude, recommender),
        candidates=None if candidates is None else _ids(candidates, recommender),
        **who,
    )
    _show(answer, _reasons(recommender, asked, answer, who) if why else None, as_json=as_json)


def _show(answer: Recommendations, reasons: list[Reasons] | None, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_as_dict(answer, reasons)))
        return
    out.print(_table(answer, reasons))
    if not answer.n_known:
        say("no known item in the history: this is the answer to a newcomer")


def _reasons(
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


def _id(text: str, recommender: Recommender) -> int | str:
    return text if recommender.info.id_type == "string" else _number(text)


def _ids(text: str, recommender: Recommender) -> list[int | str]:
    """Ids from "A,B,C", in the type of the file."""
    parts = text.split(",") if text else []
    if recommender.info.id_type == "string":
        return list(parts)
    return [_id(part.strip(), recommender) for part in parts]


def _times(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part]
    if wrong := [part for part in parts if not re.fullmatch("-?[0-9]{1,18}", part)]:
        raise ValueError(f"{wrong[0][:60]!r} among the timestamps is no number of Unix seconds")
    return [int(part) for part in parts]


def _user(text: str | None, recommender: Recommender) -> int | str | None:
    is_number = text is not None and recommender.info.user_id_type == "int64"
    return _number(text or "", "user") if is_number else text


def _number(text: str, whose: str = "item") -> int:
    # Not any text that int() takes: "1_0" is no way to write 10.
    if not re.fullmatch("-?[0-9]{1,19}", text):
        raise ValueError(f"{text[:60]!r} is no number; {whose} ids of this file are int64")
    return int(text)


def _as_dict(answer: Recommendations, reasons: list[Reasons] | None = None) -> dict[str, Any]:
    values = asdict(answer)
    if values["titles"] is None:
        del values["titles"]
    return values if reasons is None else {**values, "why": reasons}


def _answer_lines(
    recommender: Recommender, lines: Iterable[str], default_k: int, *, why: bool
) -> None:
    """One JSON answer per line; a bad line gets its number and the reason, and we go on."""
    n_lines = n_bad = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        n_lines += 1
        try:
            answer = _answer_line(recommender, line, default_k, why=why)
        except (ValueError, TypeError) as error:
            n_bad += 1
            answer = {"line": number, "error": str(error)}
        print(json.dumps(answer), flush=True)
    if n_bad:
        fail(f"{n_bad} of {n_lines} lines could not be answered")


def _answer_line(
    recommender: Recommender, line: str, default_k: int, *, why: bool
) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(request, dict) or "history" not in request:
        raise ValueError(
            'a line must be an object with "history", such as {"history": ["A", "B"]}'
        )
    known = {"history", "k", "exclude", "candidates", "exclude_seen", "why", *CALLER_INPUTS}
    if unknown := sorted(request.keys() - known):
        raise ValueError(f"unknown fields {unknown}; there are: {', '.join(sorted(known))}")
    request.setdefault("k", default_k)
    why, history = request.pop("why", why), request.pop("history")
    if not isinstance(why, bool):
        raise ValueError(f"why must be true or false, not {why!r}")
    answer = recommender.recommend(history, **request)
    who = {name: request[name] for name in CALLER_INPUTS if name in request}
    return _as_dict(answer, _reasons(recommender, history, answer, who) if why else None)


def _table(answer: Recommendations, reasons: list[Reasons] | None) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("", justify="right")
    table.add_column("item", overflow="fold")
    if answer.titles is not None:
        table.add_column("title", overflow="fold")
    table.add_column("score", justify="right")
    for place, (item_id, score) in enumerate(answer):
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


def main() -> None:
    """Entry point."""
    run_command(recommend)
