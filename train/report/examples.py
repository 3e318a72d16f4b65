"""Example users of the validation: their history, recommendations, and their next items."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.side_inputs import SideInputs
from attnrec.train.evaluation.torch_recommender import TorchRecommender, top_rows
from attnrec.train.evaluation.validation import Validation
from attnrec.train.models.base import RecommenderModel
from attnrec.train.splits.held_out import HeldOut

_N_USERS = 6
_N_EVENTS = 6
_N_ITEMS = 10
_MOST_TARGETS = 5  # of a session

Item = dict[str, Any]


def examples(model: RecommenderModel, validation: Validation, seed: int) -> list[dict[str, Any]]:
    """Users with short to long histories, drawn by `seed`, for JSON.

    Each has "n_events", the last of them in "events", "recommended", and "next": the targets, with
    their ranks in the whole catalogue, None for an item without a training event.
    """
    held_out = validation.held_out
    recommender = validation.recommender(model)
    log = validation.split.interactions
    titles: dict[int | str, str] = {}
    if log.titles is not None:
        titles = dict(zip(log.item_ids.tolist(), log.titles.tolist(), strict=True))

    def items(ids: list[int | str]) -> list[Item]:
        return [{"id": i, "title": titles[i]} if titles.get(i) else {"id": i} for i in ids]

    shown = []
    for user in _drawn(held_out, seed):
        one = held_out.between(user, user + 1)
        scores, admissible = _scores(recommender, one, model, repeats=validation.repeats)
        ids = validation.split.catalogue.item_ids
        rows = top_rows(scores, admissible, _N_ITEMS)
        targets = one.targets.tolist()
        shown.append(
            {
                "n_events": len(one.histories[0]),
                "events": items(one.histories[0][-_N_EVENTS:].tolist()),
                "recommended": items(ids[rows - 1].tolist()),
                "next": [
                    {**item, "rank": _rank(recommender.row(item["id"]), scores, admissible)}
                    for item in items(targets[:_MOST_TARGETS])
                ],
                "n_next": len(targets),
            }
        )
    return shown


def _drawn(held_out: HeldOut, seed: int) -> list[int]:
    """One user of each sixth by the length of the history, shortest first."""
    lengths = np.array([len(history) for history in held_out.histories])
    rng = np.random.default_rng(seed)
    sixths = np.array_split(np.argsort(lengths, kind="stable"), _N_USERS)
    return [int(rng.choice(sixth)) for sixth in sixths if len(sixth)]


def _scores(
    recommender: TorchRecommender, one: HeldOut, model: RecommenderModel, *, repeats: bool
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores (N + 1,) for one user, and which rows may be recommended."""
    (scores,) = recommender.scores(one.histories, SideInputs(**one.side_inputs(model.inputs)))
    seen = recommender.rows([*one.older.get(0, ()), *one.histories[0]])
    return scores, recommender.admissible(seen[:0] if repeats else seen)


def _rank(row: int, scores: NDArray[np.float32], admissible: NDArray[np.bool_]) -> int | None:
    """Ties count against the model, as in the figures."""
    if row < 0:
        return None
    return int((scores[admissible] >= scores[row]).sum())
