"""`attnrec recommend --batch`: everybody in a file, a folder or a log, on all cores."""

import json
import os
import pickle
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from joblib import Parallel, cpu_count, delayed  # comes with scikit-learn
from rich.progress import Progress

from attnrec.cli.console import err, fail, say
from attnrec.cli.file_ids import FileIds
from attnrec.runtime import Recommender
from attnrec.runtime.errors import DataError, RunError, counted
from attnrec.runtime.files import replace_file
from attnrec.runtime.model_file.format import HISTORY
from attnrec.train.run_files import training_alone, unfinished_directory
from attnrec.train.scoring import (
    answer_schema,
    argument_columns,
    histories_of_log,
    recommend_table,
)

_ROWS = 8192  # of one call: histories of like length stand together, and take 6 MB
_KEY = b"attnrec"  # in the metadata of answers: what they depend on
_MINUTE = 60


class _Part(NamedTuple):
    """What is answered as a whole or not at all: a file of a folder, a row group of a file."""

    name: str
    source: Path
    groups: list[int] | None
    columns: Sequence[str]
    n_rows: int
    schema: Any
    """Of its answers, with what they depend on."""


def recommend_to_everybody(
    file: Path, source: Path, out: Path, options: dict[str, Any], *, as_json: bool
) -> None:
    """Answer every row of the source, or every user of it where it is a log; print a summary.

    options: k, exclude, candidates and request_time as they are given, and processes.
    """

    def end(*_: object) -> None:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, end)
    try:
        summary = _Job(file, source, out, options).run()
    except (KeyboardInterrupt, SystemExit) as error:
        code = 130 if isinstance(error, KeyboardInterrupt) else 143
        fail(f"stopped; what is done is kept, and the same command goes on: {out}", code=code)
    print(json.dumps(summary) if as_json else f"{summary['users']:,} users answered: {out}")


class _Job:
    def __init__(self, file: Path, source: Path, out: Path, options: dict[str, Any]) -> None:
        self._file, self._source, self._out, self._options = file, source, out, options
        self._recommender, self._is_folder = Recommender.load(file), source.is_dir()
        self._processes = options.pop("processes") or cpu_count()
        for name in ("exclude", "candidates"):
            if options[name] is not None:
                options[name] = FileIds(self._recommender).listed(options[name])
        options["id_col"] = self._recommender.info.data["recipe"]["user_col"]
        if out.is_file() and not _stored(out):
            raise ValueError(f"{out} holds no answers of attnrec; name another file with --out")

    def run(self) -> dict[str, Any]:
        """Do what is not done, and say what was."""
        started = time.monotonic()
        with training_alone(self._out):  # a lock asks not for what it is held
            work = self._out if self._out.is_dir() else unfinished_directory(self._out)
            for left_by_kill in work.glob(".????????.*"):
                left_by_kill.unlink()
            parts = self._parts(work)
            todo = _not_done(parts, work)
            n_users, n_todo = sum(one.n_rows for one in parts), sum(one.n_rows for one in todo)
            self._check_room(work, n_todo)
            if n_todo < n_users:
                say(f"going on: {n_users - n_todo:,} of {n_users:,} users are answered already")
            n_null = self._answer(todo, work, n_users - n_todo, n_users)
            self._finish(parts, work)
        seconds = round(time.monotonic() - started, 1)
        if n_null:
            say(f"{counted(n_null, 'history')} missing (null): answered like empty ones")
        return {
            "out": str(self._out), "users": n_users, "answered": n_todo,
            "kept": n_users - n_todo, "null_histories": n_null, "seconds": seconds,
        }  # fmt: skip

    def _parts(self, work: Path) -> list[_Part]:
        if not self._is_folder:
            return self._parts_of(self._histories(work), self._source)
        files = [path for path in self._source.iterdir() if path.name[0] not in "._"]
        if other := [path.name for path in files if path.suffix != ".parquet"]:
            raise DataError(f"{self._source} holds {other[0]!r}, which is no .parquet file")
        if not files:
            raise DataError(f"{self._source} holds no .parquet file")
        return [part for path in sorted(files) for part in self._parts_of(path, path)]

    def _histories(self, work: Path) -> Path:
        """The source, or what is in it where it is a log."""
        is_parquet = self._source.name.lower().endswith(".parquet")
        if is_parquet and HISTORY in _opened(self._source).schema_arrow.names:
            return self._source
        table, self._options["request_time"] = histories_of_log(
            self._file, self._recommender.info, self._source, self._options["request_time"]
        )
        say(f"{self._source} is a log, with events of {table.num_rows:,} users")
        path = work / ".histories.parquet"
        pq.write_table(table, path, row_group_size=16 * _ROWS)
        return path

    def _parts_of(self, path: Path, given: Path) -> list[_Part]:
        """given: what the answers depend on."""
        info, stamp = self._recommender.info, given.stat()
        file, id_col = _opened(path), self._options["id_col"]
        schema, metadata = file.schema_arrow, file.metadata
        times = self._options["request_time"]
        columns = {id_col, *argument_columns(info, given.name, schema, id_col, times).values()}
        of = {"model": info.sha256, "input": [stamp.st_size, stamp.st_mtime_ns], **self._options}
        answers = answer_schema(info, schema.field(id_col)).with_metadata({_KEY: json.dumps(of)})
        if self._is_folder or not metadata.num_row_groups:
            return [_Part(given.name, path, None, columns, metadata.num_rows, answers)]
        return [
            _Part(
                f"part-{i:05}.parquet", path, [i], columns, metadata.row_group(i).num_rows, answers
            )
            for i in range(metadata.num_row_groups)
        ]

    def _check_room(self, work: Path, n_users: int) -> None:
        n_items = n_users * min(self._options["k"], self._recommender.info.n_items)
        needed = 12 * n_items * (1 if self._is_folder else 2)  # bytes; a file: parts, and all
        if (free := shutil.disk_usage(work).free) < needed:
            raise RunError(
                f"the answers may take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in "
                f"{work.parent}: make room there, or name another --out"
            )

    def _answer(self, todo: Sequence[_Part], work: Path, done: int, n_users: int) -> int:
        """Answer the parts into files of `work`; returns how many histories are null."""
        n_null, spoke = 0, time.monotonic()
        pickled = pickle.dumps(self._recommender)
        calls = (
            delayed(_answer_rows)(place, pickled, part.source.name, first, rows, self._options)
            for place, part in enumerate(todo)
            for first, rows in _rows_of(part)
        )
        n = min(self._processes, -(-sum(part.n_rows for part in todo) // _ROWS) or 1)
        found = Parallel(n, return_as="generator", batch_size=1, pre_dispatch="3*n_jobs")(calls)
        with Progress(console=err, transient=True, disable=err.quiet) as bar:
            task = bar.add_task("answering", completed=done, total=n_users)
            for place, answers in groupby(found, lambda one: one[0]):
                with (
                    replace_file(work / todo[place].name) as temporary,
                    pq.ParquetWriter(temporary, todo[place].schema) as writer,
                ):
                    for _, n_missing, answer in answers:
                        writer.write_table(answer)
                        n_null, done = n_null + n_missing, done + answer.num_rows
                        bar.update(task, completed=done)
                        if not err.is_terminal and time.monotonic() - spoke > _MINUTE:
                            spoke = time.monotonic()
                            say(f"{done:,} of {n_users:,} users")
        return n_null

    def _finish(self, parts: Sequence[_Part], work: Path) -> None:
        """A folder gets its name; the parts of a file become that file."""
        if self._is_folder:
            os.replace(work, self._out)  # perhaps by itself
            return
        with replace_file(self._out) as whole, pq.ParquetWriter(whole, parts[0].schema) as writer:
            for part in parts:
                writer.write_table(pq.ParquetFile(work / part.name).read())
        shutil.rmtree(work)


def _opened(path: Path) -> Any:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not an intact Parquet file ({error})") from error


def _stored(path: Path) -> dict[str, Any]:
    """What the answers in a file depend on; empty for files of others."""
    try:
        found: dict[str, Any] = json.loads(pq.read_schema(path).metadata[_KEY])
    except (pa.ArrowException, OSError, KeyError, TypeError):
        return {}
    return found


def _not_done(parts: Sequence[_Part], work: Path) -> list[_Part]:
    """`RunError` where `work` holds anything but answers of these parts."""
    wanted = {part.name: json.loads(part.schema.metadata[_KEY]) for part in parts}
    there = [path for path in work.iterdir() if not path.name.startswith(".")]
    for path in there:
        stored, of = _stored(path), wanted.get(path.name, {"input": None})
        if other := [name for name, value in of.items() if stored.get(name) != value]:
            what = f"answers of another {' and '.join(other)}" if stored else "something else"
            raise RunError(f"{path} holds {what}: move {work} away, or name another --out")
    return [part for part in parts if work / part.name not in there]


_loaded = lru_cache(1)(pickle.loads)  # once in a process


def _rows_of(part: _Part) -> Iterator[tuple[int, Any]]:
    """The rows of a part, with the number of the first."""
    file, first = _opened(part.source), 0
    if not part.n_rows:
        yield 0, pa.RecordBatch.from_pylist([], file.schema_arrow)
    for rows in file.iter_batches(_ROWS, row_groups=part.groups, columns=list(part.columns)):
        yield first, rows
        first += rows.num_rows


def _answer_rows(
    place: int, pickled: bytes, name: str, first: int, rows: Any, options: Mapping[str, Any]
) -> tuple[int, int, Any]:
    """In a process of its own: the place of the part, its null histories, the answers."""
    try:
        answers = recommend_table(_loaded(pickled), rows, **options)
    except ValueError as error:
        raise ValueError(f"{name}, from row {first + 1} on: {error}") from error
    return place, rows[HISTORY].null_count, answers
