"""The download of MovieLens as a person sees it: the terms, a bar, where it is."""

from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from attnrec.cli.console import err, say
from attnrec.train.data.movielens import TERMS, download_movielens
from attnrec.train.data.sources import MOVIELENS


def fetched(data: Path | None, *, quiet: bool) -> Path | None:
    """The archive that `data` names, downloaded if need be; any other path as it is."""
    name = str(data)
    if data is None or name not in MOVIELENS or data.exists():
        return data
    say(TERMS)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    with Progress(*columns, console=err, transient=True, disable=quiet) as bar:
        task = bar.add_task(name, visible=False)

        def on_bytes(received: int, total: int | None) -> None:
            bar.update(task, completed=received, total=total, visible=True)

        path = download_movielens(name, progress=on_bytes)
    say(f"{name} is kept in {path}")
    return path
