"""`attnrec-recommend`: ask a model file. Runs on a device: needs no training stack."""

import json
import re
import sys
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
    out,
    run_command,
    say,
    set_verbosity,
)
from attnrec.cli.file_ids import FileIds, counts, number
from attnrec.cli.json_lines import Reasons, answer_lines, as_dict, reasons_for, unknown_in
from attnrec.runtime import Recommendations, Recommender


def recommend(
    file: Annotated[Path, typer.Argument(help="Model file from attnrec-export.")] = Path(
        "attnrec-run/model.onnx"
    ),
    history: Annotated[
        str | None,
        typer.Option(
            help="Item ids, oldest first, separated by commas; '' for a newcomer. Blanks around "
            "an id belong to it only if the file knows it with them."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many items.")] = 10,
    exclude: Annotated[str | None, typer.Option(help="Item ids never to return.")] = None,
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
        typer.Option(help="Unix seconds of the --history, by commas; only for files that ask."),
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

    which are answered line by line; -k, --exclude, --candidates, --user, --user-tags and --why are
    for lines without such a field. Ids with commas in them need the second form.
    """
    set_verbosity(verbose=verbose, quiet=quiet)
    given = {
        "--exclude": exclude, "--candidates": candidates, "--user": user,
        "--user-tags": user_tags, "--timestamps": timestamps, "--request-time": request_time,
    }  # fmt: skip
    _check_together(given, history=history, similar=similar, why=why)
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
    _show(answer, reasons, unknown, as_json=as_json)
    if unknown or not as_json:
        _say_known(lists, unknown)
    if not as_json and not answer.n_known:
        say("no known item in the history: this is the answer to a newcomer")


def _check_together(
    given: dict[str, Any], *, history: str | None, similar: str | None, why: bool
) -> None:
    """Refuse options that would be without effect."""
    without = [name for name, value in given.items() if value is not None]
    if similar is not None and (history is not None or why or without):
        others = ["--history and --why", *without]
        raise ValueError(f"--similar goes without {', '.join(others)}: it is about one item")
    times = [name for name in without if name in ("--timestamps", "--request-time")]
    if history is None and times:
        raise ValueError(
            f"{', '.join(times)} goes with --history; of JSON lines each says its own, such as "
            '"timestamps": [1322697600], "request_time": 1322784000'
        )


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
        tags = [tag.strip() for tag in user_tags.split(",")]
        who["user_tags"] = [tag for tag in tags if tag]
    if timestamps is not None:
        who["timestamps"] = _times(timestamps)
    if request_time is not None:
        who["request_time"] = request_time
    return who


def _show(
    answer: Recommendations,
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
    parts = [part.strip() for part in text.split(",") if part]
    if wrong := [part for part in parts if not re.fullmatch("-?[0-9]{1,18}", part)]:
        raise ValueError(f"{wrong[0][:60]!r} among the timestamps is no number of Unix seconds")
    return [int(part) for part in parts]


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
