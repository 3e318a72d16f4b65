"""`attnrec recommend`: ask a model file. Runs on a device: needs no training stack."""

from pathlib import Path
from typing import Annotated, Any

import typer

from attnrec.cli.console import Json, command
from attnrec.runtime.files import check_model_file


@command
def recommend(
    file: Annotated[Path, typer.Argument(help="Model file from attnrec-export.")] = Path(
        "attnrec-run/model.onnx"
    ),
    history: Annotated[
        str | None,
        typer.Option(
            help="Item ids, oldest first, separated by commas; '' for an empty history. Blanks "
            "around an id belong to it only if the file knows it with them."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many items.")] = 10,
    exclude: Annotated[str | None, typer.Option(help="Item ids never to return.")] = None,
    candidates: Annotated[
        str | None, typer.Option(help="Item ids to choose from; default: the whole catalogue.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Id of the user; only for files that know their users.")
    ] = None,
    user_tags: Annotated[
        str | None,
        typer.Option(help="Tags of the user, by commas; only for files that have this input."),
    ] = None,
    timestamps: Annotated[
        str | None,
        typer.Option(
            help="Unix seconds of the --history, by commas; only for files that have this input."
        ),
    ] = None,
    request_time: Annotated[
        int | None, typer.Option(help="Unix seconds of now, together with --timestamps.")
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", help="Name the events that speak most for each item.")
    ] = False,
    similar: Annotated[
        str | None, typer.Option(help="Instead of a history: the items most like this one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Recommend what comes next.

    Give one history with --history, or many as JSON lines on standard input, such as

        {"history": ["85116", "22375"], "k": 5, "exclude": ["22492"], "why": true}

    which are answered line by line; -k, --exclude, --candidates, --user, --user-tags and --why are
    for lines without such a field. Ids with commas in them need the second form.
    """
    side_inputs: dict[str, Any] = {
        "user": user, "user_tags": user_tags, "timestamps": timestamps,
        "request_time": request_time,
    }  # fmt: skip
    given = {"exclude": exclude, "candidates": candidates, **side_inputs}
    _refuse_idle(given, history=history, similar=similar, why=why)
    file = check_model_file(file)
    # Only here: it needs onnxruntime.
    from attnrec.cli.recommend.run import Request, answer

    request = Request(history, k, exclude, candidates, **side_inputs, why=why, similar=similar)
    answer(file, request, as_json=as_json)


def _refuse_idle(
    given: dict[str, Any], *, history: str | None, similar: str | None, why: bool
) -> None:
    """`ValueError` for options that would be without effect."""
    others = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if similar is not None and (history is not None or why or others):
        named = ", ".join(["--history and --why", *others])
        raise ValueError(f"--similar goes without {named}: it is about one item")
    times = [name for name in others if name in ("--timestamps", "--request-time")]
    if history is None and times:
        raise ValueError(
            f"{', '.join(times)} goes with --history; a JSON line has its own, such as "
            '"timestamps": [1322697600], "request_time": 1322784000'
        )
