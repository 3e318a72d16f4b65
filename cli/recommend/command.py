"""`attnrec recommend`: ask a model file. Only --batch needs the training stack."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from attnrec.cli.console import Json, command
from attnrec.cli.recommend import rules
from attnrec.runtime.files import check_model_file, check_replaceable
from attnrec.train.data.sources import table_files


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
        int | None, typer.Option(help="Unix seconds of now, with --timestamps or --batch.")
    ] = None,
    require_all: rules.RequireAll = None,
    require_any: rules.RequireAny = None,
    forbid: rules.Forbid = None,
    boost: rules.Boost = None,
    at_least: rules.AtLeast = None,
    at_most: rules.AtMost = None,
    diversity: rules.Diversity = None,
    max_per: rules.MaxPer = None,
    min_per: rules.MinPer = None,
    why: Annotated[
        bool, typer.Option("--why", help="Name the events that speak most for each item.")
    ] = False,
    similar: Annotated[
        str | None, typer.Option(help="Instead of a history: the items most like this one.")
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Everybody in a Parquet file or a folder of them, or in a log as in training.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Parquet file, or folder, for the answers to --batch.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes for --batch. Default: one a core.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Recommend what comes next.

    Give one history with --history, or many as JSON lines on standard input, such as

        {"history": ["85116", "22375"], "k": 5, "exclude": ["22492"], "why": true}

    which are answered line by line, with fields for rules such as "at_most": {"price": 50}; -k,
    --exclude, --candidates, --user, --user-tags, --why and the options of rules are for lines
    without such a field. Ids with commas in them need the second form.

    For everybody: --batch users.parquet --out answers.parquet, on all cores. A row of TABLE has a
    user id, under the column name of the training log, and `history`, a list of item ids; side
    inputs of the file (user, user_tags, timestamps, request_time) are columns of these names. A
    table without `history` is a log of events, CSV or Parquet, read as in training. A row of the
    answers has the id, `item_id` and `score`. Interrupted, the same command goes on.
    """
    side_inputs: dict[str, Any] = {
        "user": user, "user_tags": user_tags, "timestamps": timestamps,
        "request_time": request_time,
    }  # fmt: skip
    ruled = rules.rules_given({
        "require_all": require_all, "require_any": require_any, "forbid": forbid, "boost": boost,
        "at_least": at_least, "at_most": at_most, "diversity": diversity, "max_per": max_per,
        "min_per": min_per,
    })  # fmt: skip
    given = {"exclude": exclude, "candidates": candidates, **side_inputs}
    if batch is None:
        if out is not None or processes is not None:
            raise ValueError("--out and --processes are read only with --batch: give that too")
        _refuse_idle({**given, **ruled}, history=history, similar=similar, why=why)
        file = check_model_file(file)
    else:
        columns = {**ruled, "user": user, "user_tags": user_tags, "timestamps": timestamps}
        of_one = {"history": history, "similar": similar, "why": why or None, **columns}
        target = _check_batch(batch, out, [n for n, value in of_one.items() if value is not None])
        file = check_model_file(file)
        try:  # only here: it needs pyarrow
            from attnrec.cli.recommend.batch import recommend_to_everybody
        except ModuleNotFoundError as error:
            install = "which is not installed: pip install 'attnrec[train]'"
            raise ValueError(f"--batch needs {error.name}, {install}") from error

        options = {name: given[name] for name in ("exclude", "candidates", "request_time")}
        options |= {"k": k, "processes": processes}
        recommend_to_everybody(file, batch, target, options, as_json=as_json)
        return
    # Only here: it needs onnxruntime.
    from attnrec.cli.recommend.run import Request, answer

    request = Request(
        history, k, exclude, candidates, **side_inputs, why=why, similar=similar, rules=ruled
    )
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


def _check_batch(batch: Path, out: Path | None, of_one: Sequence[str]) -> Path:
    """Returns --out; `ValueError` for places that cannot be, and options that are for one."""
    if of_one:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in of_one)
        raise ValueError(f"--batch goes without {named}: what is one person's is in its columns")
    if out is None:
        raise ValueError("--batch goes with --out answers.parquet, or for a folder with a folder")
    if not batch.is_dir():
        table_files(batch)
    source, target = (Path(os.path.realpath(path)) for path in (batch, out))
    if source in (target, *target.parents):
        raise ValueError(f"--out {out} is the input, or lies in it; name another place")
    if batch.is_dir() and out.is_file():
        raise ValueError(f"--batch is a folder, and --out {out} a file; name a folder")
    if not (batch.is_dir() and out.is_dir()):
        check_replaceable(out, "--out")
    return out
