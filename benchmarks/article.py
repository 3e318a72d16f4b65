"""The user x item attention model with the settings of the tutorials, and what its attention does.

    python benchmarks/article.py --data DIR/interactions.csv.gz

Adam (learning rate 0.001), batches of 32 pairs, 10 epochs, vectors of 50, one negative for every
event. The last 20 % of the events, in a seeded random order, are validation, like Keras'
`validation_split` of shuffled rows; each stands against one item, drawn uniformly from those that
its user has nowhere in the log. Two rows: the softmax over one score of the tutorials, which is
the constant 1, and the softmax over the catalogue. Beside accuracy and AUC against those
negatives stands what matters to a user: the ranking of the whole catalogue, of a model trained
with the same settings on the protocol of attnrec (validation event).
"""

import argparse
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from attnrec.train.data.recipe import DataRecipe
from attnrec.train.evaluation.metrics import evaluate_answers
from attnrec.train.evaluation.torch_recommender import TorchRecommender
from attnrec.train.models.pair_model import PairConfig
from attnrec.train.models.user_item_attention import UserItemAttention
from attnrec.train.runs.train import read_log
from attnrec.train.splits.batches import PairBatches
from attnrec.train.splits.split import Sequences, Split, all_events, divide

_PAIRS, _EPOCHS, _DIM, _LEARNING_RATE = 32, 10, 50, 0.001
_VALIDATION = 0.2


class SoftmaxOfOneScore(UserItemAttention):
    """The weight of a pair by itself, as in the tutorials."""

    def weights(self, users: Tensor) -> Tensor:
        """(B, N) ones: the softmax of a single number."""
        scores = users @ self.item_embedding.weight[1:].T  # (B, N)
        return torch.softmax(scores.unsqueeze(-1), dim=-1).squeeze(-1)


def train(kind: type[UserItemAttention], split: Split, seed: int) -> UserItemAttention:
    """Adam over pairs, without a schedule and without strangers."""
    torch.manual_seed(seed)
    sizes = {name: n for name, n in split.sizes().items() if name != "n_tags"}
    model = kind(PairConfig(hidden_dim=_DIM, n_negatives=1, user_dropout=0, **sizes))
    optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
    batches = PairBatches(split, _PAIRS, n_negatives=1, user_dropout=0)
    for epoch in range(_EPOCHS):
        for batch in batches.epoch(np.random.default_rng([seed, epoch])):
            optimizer.zero_grad()
            model.training_loss(batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()


def without(split: Split, left_out: np.ndarray[Any, Any]) -> Split:
    """Train on all events of `split` but these, (n_events,) bool."""
    rows, offsets = split.sequences.rows, split.sequences.offsets
    kept = [int((~left_out[a:b]).sum()) for a, b in pairwise(offsets)]
    return replace(split, sequences=Sequences(np.cumsum([0, *kept]), rows[~left_out]))


def pairs(kind: type[UserItemAttention], everything: Split, seed: int) -> dict[str, float]:
    """Accuracy and AUC of held-out events against as many items that their users never took."""
    rng = np.random.default_rng(seed)
    n_events = len(everything.sequences.rows)
    last = rng.permutation(n_events)[int(n_events * (1 - _VALIDATION)) :]
    held_out = np.zeros(n_events, dtype=bool)
    held_out[last] = True
    model = train(kind, without(everything, held_out), seed)
    scores: list[float] = []
    happened: list[int] = []
    # Of the whole log, so that no negative is an event of the training or of the validation.
    asked = PairBatches(everything, 2048, n_negatives=1, user_dropout=0)
    users = np.repeat(
        np.arange(1, len(everything.users.ids) + 1), np.diff(everything.sequences.offsets)
    )
    for start in range(0, len(last), 1024):
        part = last[start : start + 1024]
        user = users[part]
        negatives = asked.draw(user, rng)[:, 0]
        items = np.stack([everything.sequences.rows[part], negatives], axis=1).astype(np.int64)
        with torch.inference_mode():
            logits = model.pair_logits(torch.from_numpy(items), user=torch.from_numpy(user))
        scores += logits.flatten().tolist()
        happened += [1, 0] * len(part)
    right = (np.array(scores) > 0) == (np.array(happened) == 1)
    return {"accuracy": float(right.mean()), "auc": float(roc_auc_score(happened, scores))}


def ranking(kind: type[UserItemAttention], split: Split, seed: int) -> dict[str, float]:
    """Whole-catalogue figures of the validation event of every user."""
    model = train(kind, split, seed)
    answers = TorchRecommender(model, split.catalogue, users=split.users)
    held_out, ids = split.held_out("valid"), split.catalogue.item_ids
    found = evaluate_answers(answers, held_out, ids, exclude_seen=True, inputs=model.inputs)
    return {name: found.values[name] for name in ("ndcg@10", "hit_rate@10", "coverage@10")}


def main() -> None:
    """Print a JSON line a row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="log; default: the embedded Online Retail log")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    log, _ = read_log(arguments.data, DataRecipe())
    for name, kind in (("one score", SoftmaxOfOneScore), ("catalogue", UserItemAttention)):
        figures = pairs(kind, all_events(log), arguments.seed)
        figures |= ranking(kind, divide(log, "leave-one-out"), arguments.seed)
        rounded = {key: round(value, 4) for key, value in figures.items()}
        print(json.dumps({"softmax over": name, **rounded}), flush=True)


if __name__ == "__main__":
    main()
