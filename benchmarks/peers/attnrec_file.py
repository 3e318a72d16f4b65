"""attnrec, as an application has it: one file, raw ids in, raw ids out."""

from pathlib import Path
from typing import Any

from answering import K

from attnrec.runtime import Recommender


class Attnrec:
    """Nothing is left to write."""

    comes_back = "items with scores and titles"

    def __init__(self, file: Path) -> None:
        self.recommender = Recommender.load(file)

    def ask(self, history: list[Any]) -> list[Any]:
        return self.recommender.recommend(history, K).item_ids

    def ask_batch(self, histories: list[list[Any]]) -> list[list[Any]]:
        return [answer.item_ids for answer in self.recommender.recommend_batch(histories, K)]


def load(folder: Path, variant: str) -> Attnrec:
    return Attnrec(folder / f"{variant}.onnx")
