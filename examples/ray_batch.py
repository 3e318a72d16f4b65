"""Recommendations for everybody in a folder of Parquet files, on several machines with Ray Data.

    python examples/ray_batch.py model.onnx histories/ answers/ --workers 2

On one machine `attnrec recommend --batch` does this without Ray. A file of histories/ has the
columns user_id and history (a list of raw item ids, oldest first); of each comes the file of the
same name in answers/, with user_id, item_id and score (lists, best first). After an interruption
run it again: what is done is not done again.
"""

import argparse
import os
import secrets
import sys
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before ray is imported: report to nobody

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from attnrec.runtime import AttnrecError, ModelFileError, Recommender
from attnrec.train.scoring import recommend_table

K = 10
ROWS = 8192  # users of one call: histories of like length stand together


class Answer:
    """One of these lives in each worker, with its own Recommender, which uses one thread."""

    def __init__(self, model: Path, target: Path) -> None:
        self.recommender, self.target = Recommender.load(model), target

    def __call__(self, batch: dict) -> dict:
        return {"result": [self.try_to_answer(Path(path)) for path in batch["path"]]}

    def try_to_answer(self, path: Path) -> str:
        try:
            return f"{path.name}: {self.answer(path)} users"
        except (ValueError, AttnrecError, OSError) as error:  # the other files are answered still
            return f"{path.name} FAILED: {error}"

    def answer(self, path: Path) -> int:
        """Answer a whole file, a few rows at a time; it gets its name when it is complete."""
        source, unfinished = pq.ParquetFile(path), self.target / f".{secrets.token_hex(4)}.part"
        none = recommend_table(self.recommender, source.schema_arrow.empty_table(), K)
        schema = none.schema.with_metadata({"of": self.of(path)})
        with pq.ParquetWriter(unfinished, schema) as writer:
            for rows in source.iter_batches(ROWS, columns=["user_id", "history"]):
                writer.write_table(recommend_table(self.recommender, rows, K))
        os.replace(unfinished, self.target / path.name)
        return source.metadata.num_rows

    def of(self, path: Path) -> str:
        """What answers depend on. With another model or file of histories they are made anew."""
        file = path.stat()
        return f"{self.recommender.info.sha256} {K} {file.st_size} {file.st_mtime_ns}"

    def is_done(self, path: Path) -> bool:
        try:
            stored = pq.read_schema(self.target / path.name).metadata or {}
        except (FileNotFoundError, pa.ArrowInvalid):  # the latter: there was a power cut
            return False
        return stored.get(b"of") == self.of(path).encode()

    def clean(self) -> None:
        """Remove what killed workers left; the name begins with a dot, so readers skip it."""
        for unfinished in self.target.glob(".*.part"):
            unfinished.unlink()


def main() -> str | None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("histories", type=Path, help="folder of Parquet files")
    parser.add_argument("answers", type=Path, help="folder to write; for one run at a time")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    args.answers.mkdir(parents=True, exist_ok=True)
    settings = (args.model.absolute(), args.answers.absolute())
    try:
        here = Answer(*settings)
    except ModelFileError as error:
        return str(error)
    here.clean()
    files = sorted(args.histories.absolute().glob("*.parquet"))
    todo = [{"path": str(path)} for path in files if not here.is_done(path)]
    print(f"{len(files)} files, {len(files) - len(todo)} of them done before", flush=True)
    if not todo:
        return None
    ray.init(num_cpus=args.workers, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    pool = ray.data.ActorPoolStrategy(size=args.workers)
    parts = ray.data.from_items(todo, override_num_blocks=len(todo))  # a task for each file
    failed = 0
    for row in parts.map_batches(Answer, fn_constructor_args=settings, compute=pool).iter_rows():
        print(row["result"], flush=True)
        failed += "FAILED" in row["result"]
    here.clean()
    return f"{failed} files failed" if failed else None


if __name__ == "__main__":
    sys.exit(main())
