"""`attnrec recommend --batch`: everybody in a file, a folder or a log, on all cores."""

import json
import os
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import Progress

from attnrec.cli.console import err, fail, say
from attnrec.cli.file_ids import FileIds, counts
from attnrec.runtime import ModelInfo, Recommender
from attnrec.runtime.errors import DataError, RunError
from attnrec.runtime.files import replace_file
from attnrec.runtime.model_file.format import CALLER_INPUTS, HISTORY, TIMESTAMPS
from attnrec.train.run_files import training_alone
from attnrec.train.scoring import read_histories, recommend_table, tables_of

_ROWS = 8192  # of one call: histories of like length stand together, and take some MB
_KEY = b"attnrec"  # in the metadata of answers: what they depend on
_MINUTE = 60
_Call = tuple[int, str, Any]  # place of a part, name of its table, some of its rows


class _Part(NamedTuple):
    """A file of answers, which is written as a whole or not at all."""

    path: Path
    table: Path
    """What is answered."""
    rows: Callable[[], Iterable[Any]]
    n_rows: int
    schema: Any
    """Of the answers."""


def recommend_to_everybody(
    file: Path, source: Path, out: Path, options: dict[str, Any], *, as_json: bool
) -> None:
    """Answer every row of the source, or every user of it where it is a log; print a summary.

    options: of `recommend_table`, as they are given; and processes.
    """

    def end(*_: object) -> None:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, end)
    try:
        with training_alone(out):  # its lock holds off any other command that writes there
            summary = _recommend(file, source, out, options)
    except (KeyboardInterrupt, SystemExit) as error:
        code = 130 if isinstance(error, KeyboardInterrupt) else 143
        fail(f"stopped; whole files of {out} are kept, the same command does the rest", code=code)
    print(json.dumps(summary) if as_json else f"{summary['users']:,} users answered: {out}")


def _recommend(file: Path, source: Path, out: Path, options: dict[str, Any]) -> dict[str, Any]:
    started, recommender = time.monotonic(), Recommender.load(file)
    affinity = getattr(os, "sched_getaffinity", None)  # neither on macOS nor on Windows
    n_cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    ids, n_processes = FileIds(recommender), options.pop("processes") or n_cores
    texts = {name: options[name] for name in ("exclude", "candidates")}
    lists = {name: ids.listed(text) for name, text in texts.items() if text is not None}
    for line in counts(lists, ids.unknown(lists) if lists else {}):
        say(f"--{line}")
    options |= lists
    options["id_col"] = recommender.info.data["recipe"]["user_col"]
    parts = _parts(file, recommender, source, out, options)
    todo = _not_done(parts, out)
    n_users, n_todo = (sum(part.n_rows for part in some) for some in (parts, todo))
    if n_todo < n_users:
        say(f"{n_users - n_todo:,} of {n_users:,} users were answered before")
    needed = 12 * n_todo * min(options["k"], recommender.info.n_items)  # bytes
    if (free := shutil.disk_usage(out.absolute().parent).free) < needed:
        raise RunError(
            f"the answers may take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free at "
            f"{out}: make room there, or name another --out"
        )
    if source.is_dir():
        out.mkdir(exist_ok=True)
    n_null = _answer(recommender, todo, options, min(n_processes, -(-n_todo // _ROWS) or 1))
    if n_null:
        say(f"{n_null:,} histories are missing (null): answered like empty ones")
    return {
        "out": str(out), "users": n_users, "answered": n_todo, "null_histories": n_null,
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


def _parts(
    file: Path, recommender: Recommender, source: Path, out: Path, options: Mapping[str, Any]
) -> list[_Part]:
    """What there is to answer; `DataError` for a table that cannot be, before any is."""
    tables = [source]
    if is_folder := source.is_dir():
        tables = sorted(path for path in source.iterdir() if path.name[0] not in "._")
        other = [path.name for path in tables if path.suffix != ".parquet"]
        if other or not tables:
            raise DataError(f"{source} must hold .parquet files alone, not {other[:1] or 'none'}")
    parts, notes = [], dict[str, None]()
    for table in tables:
        rows, n_rows, schema = _read(table, file, recommender.info, is_log=not is_folder)
        try:
            answers = recommend_table(recommender, schema.empty_table(), **options).schema
        except (ValueError, DataError) as error:
            raise DataError(f"{table}: {error}") from error
        notes |= dict.fromkeys(_notes(recommender.info.inputs, schema.names))
        stamp = table.stat()
        of = {"model": recommender.info.sha256, "input": [stamp.st_size, stamp.st_mtime_ns]}
        schema = answers.with_metadata({_KEY: json.dumps({**of, **options})})
        parts.append(_Part(out / table.name if is_folder else out, table, rows, n_rows, schema))
    for note in notes:
        say(note)
    return parts


def _notes(inputs: Sequence[str], present: Sequence[str]) -> Iterator[str]:
    """Which columns make no difference, and which would make one."""
    for name in CALLER_INPUTS:
        if name in present and name not in inputs:
            yield f"column {name!r} is not read: the model file has no such input"
    if TIMESTAMPS in inputs and TIMESTAMPS not in present:
        yield f"no column {TIMESTAMPS!r}: the answers are those of the model without time bias"


def _read(
    table: Path, file: Path, info: ModelInfo, *, is_log: bool
) -> tuple[Callable[[], Iterable[Any]], int, Any]:
    """How to go through the rows, their number, their schema; is_log: without `history`."""
    if table.suffix.lower() == ".parquet":
        try:
            schema, n_rows = pq.read_schema(table), pq.read_metadata(table).num_rows
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{table}: not an intact Parquet file ({error})") from error
        if HISTORY in schema.names or not is_log:
            used = {info.data["recipe"]["user_col"], HISTORY, *CALLER_INPUTS}.intersection(
                schema.names
            )

            def batches() -> Iterator[Any]:
                with pq.ParquetFile(table) as opened:
                    yield from opened.iter_batches(_ROWS, columns=[*used])

            return (batches if n_rows else lambda: [schema.empty_table()]), n_rows, schema
    say(f"{table} has no column {HISTORY!r}: it is read as a log of events")
    found = read_histories(file, info, table)
    rows = partial(tables_of, found, info, _ROWS)
    return rows, len(found.users), next(rows()).schema


def _stored(schema: Any) -> dict[str, Any]:
    """What answers depend on; empty for a table of others."""
    found: dict[str, Any] = json.loads((schema.metadata or {}).get(_KEY, "{}"))
    return found


def _not_done(parts: Sequence[_Part], out: Path) -> list[_Part]:
    """`RunError` where there is anything but answers that this command may have written."""
    wanted, done = {part.path: _stored(part.schema) for part in parts}, set()
    for path in out.iterdir() if out.is_dir() else [out] * out.exists():
        if path.name[0] == ".":
            if out / path.name[10:] in wanted:
                path.unlink()  # by a command that was killed
            continue
        try:
            stored = _stored(pq.read_schema(path))
        except (pa.ArrowException, OSError):
            stored = {}
        of = wanted.get(path, {"input": "none"})
        other = [name for name, value in of.items() if stored.get(name) != value]
        if not other:
            done.add(path)
        elif out.is_dir() or not stored:  # a file of answers is replaced
            what = f"answers of another {' and '.join(other)}" if stored else "something else"
            raise RunError(f"{path} holds {what}: move it away, or name another --out")
    return [part for part in parts if part.path not in done]


def _answer(
    recommender: Recommender, todo: Sequence[_Part], options: Mapping[str, Any], n: int
) -> int:
    """Answer the parts in n processes; returns how many histories are null."""
    n_null, spoke = 0, time.monotonic()
    answer = partial(_answer_rows, recommender, options)
    calls = (
        (place, part.table.name, rows) for place, part in enumerate(todo) for rows in part.rows()
    )
    is_silent = err.quiet or not err.is_terminal
    with (
        Progress(console=err, transient=True, disable=is_silent) as bar,
        closing(_in_processes(n, answer, calls)) as found,
    ):
        n_users, done = sum(part.n_rows for part in todo), 0
        task = bar.add_task("answering", total=n_users)
        for place, answers in groupby(found, lambda one: one[0]):
            part = todo[place]
            with (
                replace_file(part.path) as temporary,
                pq.ParquetWriter(temporary, part.schema) as writer,
            ):
                for _, n_missing, answer in answers:
                    writer.write_table(answer)
                    n_null, done = n_null + n_missing, done + answer.num_rows
                    bar.update(task, completed=done)
                    if not err.is_terminal and time.monotonic() - spoke > _MINUTE:
                        spoke = time.monotonic()
                        say(f"{done:,} of {n_users:,} users")
    return n_null


def _answer_rows(
    recommender: Recommender, options: Mapping[str, Any], call: _Call
) -> tuple[int, int, Any]:
    """The place of the part, its null histories, the answers."""
    place, name, rows = call
    try:
        answers = recommend_table(recommender, rows, **options)
    except ValueError as error:
        first, last = (rows[options["id_col"]][row].as_py() for row in (0, -1))
        raise ValueError(f"{name}, users {first!r} to {last!r}: {error}") from error
    return place, rows[HISTORY].null_count, answers


def _in_processes(
    n: int, answer: Callable[[_Call], Any], calls: Iterable[_Call]
) -> Generator[Any, None, None]:
    """The answers in the order of the calls. Threads are no faster than one: Python's lock."""
    if n == 1:
        yield from map(answer, calls)
        return
    context, idle, started = get_context("spawn"), SimpleQueue[Any](), []
    for _ in range(n):
        here, there = context.Pipe()
        started.append(context.Process(target=_work, args=(there, answer), daemon=True))
        started[-1].start()
        there.close()
        idle.put(here)
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(n) as threads:  # one for each pipe
        try:
            for call in calls:
                waiting.append(threads.submit(_ask, idle, call))
                if len(waiting) > 2 * n:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for process in started:
                process.kill()


def _ask(idle: SimpleQueue[Any], call: _Call) -> Any:
    """The answer of a process that has nothing to do.

    Each has a pipe of its own. In the pools of Python all share queues, and a process that is
    killed while it holds one stops the others for ever.
    """
    pipe = idle.get()
    try:
        pipe.send(call)
        found = pipe.recv()
    except (EOFError, OSError) as error:
        remedy = "perhaps for lack of memory: try again with fewer --processes"
        raise RunError(f"a process was killed, {remedy}") from error
    finally:
        idle.put(pipe)
    if isinstance(found, Exception):
        raise found
    return found


def _work(pipe: Any, answer: Callable[[_Call], Any]) -> None:
    """In a process of its own, until the first one ends; that one gets the signals."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        while True:
            call = pipe.recv()
            try:
                found = answer(call)
            except Exception as error:
                found = error
            pipe.send(found)
