"""faiss: exact scans of all item vectors, for states that are there already.

`prepare` makes indexes of `table.npy`: IndexFlatIP, and 8-bit codes. Nothing else of a request is
done: no model, no ids of the catalogue, and what was seen stays in.
"""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from answering import K, histories_of

faiss.omp_set_num_threads(1)


class Scan:
    """An index, and the state (D,) after each history."""

    comes_back = "inner products and rows"

    def __init__(self, folder: Path, variant: str) -> None:
        self.index = faiss.read_index(str(folder / f"{variant}.faiss"))
        states = np.load(folder / "states.npy")
        histories = [tuple(history) for history in histories_of(folder)]
        self.state_of = {h: state[None] for h, state in zip(histories, states, strict=True)}

    def ask(self, history: list[Any]) -> list[Any]:
        _, rows = self.index.search(self.state_of[tuple(history)], K)
        return rows[0].tolist()

    def ask_batch(self, histories: list[list[Any]]) -> list[list[Any]]:
        states = np.concatenate([self.state_of[tuple(history)] for history in histories])
        return self.index.search(states, K)[1].tolist()


def prepare(folder: Path, setting: dict[str, Any]) -> None:
    table = np.load(folder / "table.npy")  # (N, D)
    dim, kind = table.shape[1], faiss.ScalarQuantizer.QT_8bit
    indexes = {
        "flat": faiss.IndexFlatIP(dim),
        "sq8": faiss.IndexScalarQuantizer(dim, kind, faiss.METRIC_INNER_PRODUCT),
    }
    for name, index in indexes.items():
        index.train(table)
        index.add(table)
        faiss.write_index(index, str(folder / f"{name}.faiss"))


def load(folder: Path, variant: str) -> Scan:
    return Scan(folder, variant)
