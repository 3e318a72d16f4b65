"""What a user of RePlay's files writes in numpy: id map, padding, mask, and the best unseen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from answering import K


class ByHand:
    """Around something that scores."""

    def __init__(self, folder: Path) -> None:
        self.max_len: int = json.loads((folder / "setting.json").read_text())["max_len"]
        self.ids = np.load(folder / "ids.npy")
        self.token_of = {item_id: token for token, item_id in enumerate(self.ids.tolist())}

    def known(self, history: list[Any]) -> list[int]:
        """Tokens of the items that the model knows."""
        return [token for i in history if (token := self.token_of.get(i)) is not None]

    def padded(self, known: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        """The newest tokens, at the right, and where they are: (B, T), (B, T)."""
        tokens = np.zeros((len(known), self.max_len), np.int64)
        real = np.zeros(tokens.shape, bool)
        for row, history in enumerate(known):
            if newest := history[-self.max_len :]:
                tokens[row, -len(newest) :] = newest
                real[row, -len(newest) :] = True
        return tokens, real

    def best(self, scores: np.ndarray, seen: list[int]) -> list[Any]:
        """Ids of the best unseen of one row (N,), which is changed."""
        scores[seen] = -np.inf
        found = np.argpartition(scores, -K)[-K:]
        return self.ids[found[np.argsort(-scores[found])]].tolist()
