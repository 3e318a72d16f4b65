"""The torch model itself, as it is usually served: dictionary, forward pass, top-k."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from answering import K

from attnrec.train.models.sasrec_recency import RecencyConfig, RecencySASRec


class Eager:
    """Id map, what was seen left out and top-k are ours to write."""

    comes_back = "a state; scores are a product"

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        config = RecencyConfig(**json.loads((folder / "sasrec.json").read_text()))
        self.model = RecencySASRec(config)
        self.model.load_state_dict(torch.load(folder / "sasrec.pt", weights_only=True))
        self.model.eval()
        self.table = self.model.item_table().detach()  # (N + 1, D), row 0 is the start
        self.ids = np.load(folder / "ids.npy").tolist()
        self.row_of = {item_id: row for row, item_id in enumerate(self.ids, start=1)}

    @torch.inference_mode()
    def best(self, known: list[list[int]]) -> list[list[Any]]:
        """known: histories of one length, as rows."""
        rows = torch.tensor(known)
        newest = rows[:, -self.model.config.max_len :]
        state = self.model.state(torch.nn.functional.embedding(newest, self.table), newest > 0)
        scores = state @ self.table.T  # (B, N + 1)
        scores[:, 0] = -torch.inf
        scores.scatter_(1, rows, -torch.inf)
        found = scores.topk(K).indices.tolist()
        return [[self.ids[row - 1] for row in best] for best in found]

    def ask(self, history: list[Any]) -> list[Any]:
        return self.ask_batch([history])[0]

    def ask_batch(self, histories: list[list[Any]]) -> list[list[Any]]:
        return self.best([[self.row_of[i] for i in h if i in self.row_of] for h in histories])


def save(model: RecencySASRec, folder: Path) -> None:
    """What `load` loads."""
    (folder / "sasrec.json").write_text(json.dumps(asdict(model.config)))
    torch.save(model.state_dict(), folder / "sasrec.pt")


def load(folder: Path, variant: str) -> Eager:
    return Eager(folder)
