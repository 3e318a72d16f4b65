"""The files that examples in other languages answer from, and what Python answers.

Two small models of the embedded log, each exact and with int8: the default model for the
best sellers, with string ids and titles, and a SASRec for everything, with int64 ids. Beside them
stands `answers.json`: for 200 customers of each what `Recommender` returns, all of it from the
exact and from the int8 file.

    python tests/data/make_apps.py tests/data/apps    # trains for some minutes, writes anew
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from attnrec.runtime import Recommender

EMBEDDED = Path(__file__).parents[2] / "train/data/online_retail/online-retail.parquet"
ITEMS = EMBEDDED.with_stem("online-retail-items")
BIN = Path(sys.executable).parent
PROFILES = ("fp32", "int8")
SIZE = ["--hidden-dim", "32", "--max-len", "50", "--epochs", "6", "--threads", "1", "--no-report"]
N_USERS, K = 200, 10
N_BEST_SELLERS = 1000


def best_sellers(log: pd.DataFrame) -> pd.DataFrame:
    """The events of the items that are bought most: a file of the default model stays small."""
    return log[log["item_id"].isin(log["item_id"].value_counts().index[:N_BEST_SELLERS])]


def numbered(log: pd.DataFrame) -> pd.DataFrame:
    """The same events, with numbers for ids: the largest do not fit into a float64."""
    codes, _ = pd.factorize(log["item_id"], sort=True)
    return log.assign(item_id=2**53 + codes)


def questions(log: pd.DataFrame) -> list[dict[str, Any]]:
    """Histories of 200 customers, short and long; some with what is banned or allowed."""
    histories = log.sort_values("timestamp", kind="stable").groupby("user_id")["item_id"].agg(list)
    asked = []
    for i, history in enumerate(histories.sample(N_USERS, random_state=0)):
        other = histories.iloc[7 * i % len(histories)]
        asked.append({
            "history": history[-(1 + 7 * i % 80):],
            "exclude": other[:5] if i % 4 == 1 else [],
            "candidates": list(dict.fromkeys(other))[:50] if i % 4 == 2 else [],
        })  # fmt: skip
    return asked


def answers(recommender: Recommender, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What comes back: ids, and scores with all digits of a float32."""
    found = []
    for question in asked:
        # As the graph does it: no candidates means no restriction; nothing else is left out.
        answer = recommender.recommend(
            question["history"], K, exclude=question["exclude"],
            candidates=question["candidates"] or None, exclude_seen=False,
        )  # fmt: skip
        found.append({"item_ids": answer.item_ids, "scores": answer.scores})
    return found


def run(*command: object) -> None:
    sys.stderr.write(" ".join(map(str, command)) + "\n")
    subprocess.run([str(part) for part in command], check=True)


def main(folder: Path) -> None:
    log = pd.read_parquet(EMBEDDED)
    stored: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, events, options in (
            ("string", best_sellers(log), ["--model", "fusion", "--items", ITEMS]),
            ("int64", numbered(log), ["--model", "sasrec"]),
        ):
            trained, data = Path(scratch) / name, Path(scratch) / f"{name}.parquet"
            events.to_parquet(data)
            run(BIN / "attnrec-train", data, *options, *SIZE, "--out", trained)
            asked = questions(events)
            stored[name] = {"questions": asked}
            for profile in PROFILES:
                file = folder / f"{name}-{profile}.onnx"
                run(BIN / "attnrec-export", trained, "--profile", profile, "--out", file)
                for extra in folder.glob(f"{file.stem}.profiles.*"):  # times of this machine
                    extra.unlink()
                stored[name][profile] = answers(Recommender.load(file), asked)
    (folder / "answers.json").write_text(json.dumps(stored, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
