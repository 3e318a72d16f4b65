"""`attnrec-recommend`: ask a model file. Runs on a device: needs no training stack."""

from pathlib import Path
from typing import Annotated, Any

import typer

from attnrec.cli.console import (
    Json,
    Quiet,
    Verbose,
    Version,
    run_command,
    set_verbosity,
)
from attnrec.runtime.files import check_model_file


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
    file = check_model_file(file)
    # Only here: it needs onnxruntime.
    from attnrec.cli.recommend_run import recommend_and_print

    recommend_and_print(
        file, k, history=history, exclude=exclude, candidates=candidates, user=user,
        user_tags=user_tags, timestamps=timestamps, request_time=request_time, similar=similar,
        why=why, as_json=as_json,
    )  # fmt: skip


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


def main() -> None:
    """Entry point."""
    run_command(recommend)
