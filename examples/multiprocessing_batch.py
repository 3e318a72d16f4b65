"""Answer histories in two processes: one JSON list of raw item ids a line, in and out.

    python multiprocessing_batch.py model.onnx spawn < histories.jsonl > answers.jsonl

spawn: each process gets the Recommender pickled and loads its file; fork: it inherits it.
"""

import json
import multiprocessing
import sys

from attnrec.runtime import Recommender


def keep(given: Recommender) -> None:
    """Once in each process: sent along with every task, it would be loaded for every task."""
    global recommender
    recommender = given


def answer(histories: list[list[int | str]]) -> list[list[int | str]]:
    return [one.item_ids for one in recommender.recommend_batch(histories, k=10)]


if __name__ == "__main__":
    histories = [json.loads(line) for line in sys.stdin]
    parts = [histories[start : start + 1000] for start in range(0, len(histories), 1000)]
    context = multiprocessing.get_context(sys.argv[2])
    loaded = Recommender.load(sys.argv[1])
    with context.Pool(2, keep, [loaded]) as pool:
        for answers in pool.imap(answer, parts):
            sys.stdout.writelines(json.dumps(item_ids) + "\n" for item_ids in answers)
