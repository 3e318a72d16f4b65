"""Figures of slices: by the history before the target, and by the target."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.train.evaluation.metrics import bootstrap_intervals, user_gains
from attnrec.train.splits.held_out import HeldOut
from attnrec.train.splits.split import Catalogue

_LENGTHS = ((1, 5), (6, 20), (21, 50), (51, None))

Masks = Mapping[str, NDArray[np.bool_]]
"""Which targets (n_targets,) belong to which slice."""


def slice_masks(held_out: HeldOut, catalogue: Catalogue) -> Masks:
    """By events before the target, and by frequency of the target in training."""
    lengths = np.repeat([len(history) for history in held_out.histories], held_out.n_targets())
    masks = {}
    for shortest, longest in _LENGTHS:
        name = f"history_{shortest}+" if longest is None else f"history_{shortest}-{longest}"
        masks[name] = (lengths >= shortest) & (lengths <= (longest or np.inf))
    events_up_to = np.cumsum(catalogue.n_events)
    n_head = int(np.searchsorted(events_up_to, events_up_to[-1] / 2)) + 1
    head = set(catalogue.item_ids[:n_head].tolist())
    masks["target_head"] = np.array([target in head for target in held_out.targets.tolist()])
    masks["target_tail"] = ~masks["target_head"]
    known = np.isin(held_out.targets, catalogue.item_ids)
    # Where a request is made at the time of the last event, a page or a basket goes on.
    last = [times[-1] if len(times) else -1 for times in held_out.timestamps]
    later = np.repeat(held_out.request_times > last, held_out.n_targets())
    parts = {"target_known": known, "target_later": later}
    if catalogue.titles is not None:
        parts["target_new_title"] = ~_has_known_title(held_out, catalogue)
    return {**masks, **{name: m for name, m in parts.items() if m.any() and not m.all()}}


def _has_known_title(held_out: HeldOut, catalogue: Catalogue) -> NDArray[np.bool_]:
    """Whether an item of the history has the title of the target: it is sold under two ids."""
    assert catalogue.titles is not None
    title = dict(zip(catalogue.item_ids.tolist(), catalogue.titles, strict=True))
    users = np.repeat(np.arange(len(held_out.histories)), held_out.n_targets())
    known = [{title.get(item_id) for item_id in history} for history in held_out.histories]
    pairs = zip(users.tolist(), held_out.targets.tolist(), strict=True)
    return np.array([bool(own := title.get(id_)) and own in known[u] for u, id_ in pairs])


def slice_figures(
    ranks: NDArray[np.float64], held_out: HeldOut, masks: Masks
) -> dict[str, dict[str, Any]]:
    """n_users, ndcg@10 with its interval and hit_rate@10 of each slice; ranks (n_targets,).

    By events before the target: "history_1-5", "history_6-20", "history_21-50", "history_51+"; by
    popularity: "target_head", the most frequent items that make up half of the events trained
    on, and "target_tail", the others; "target_known", those with a training event; "target_later",
    asked for at a later time than that of the event before; "target_new_title", whose
    title no item of the history has. Slices without a target, and the last three where all targets
    are in them, are left out.
    """
    n_targets = held_out.n_targets()
    user = np.repeat(np.arange(len(n_targets)), n_targets)
    return {
        name: _figures(ranks[mask], np.bincount(user[mask], minlength=len(n_targets)))
        for name, mask in masks.items()
        if mask.any()
    }


def _figures(ranks: NDArray[np.float64], n_targets: NDArray[np.int64]) -> dict[str, Any]:
    """ranks: of the targets in the slice; n_targets: how many of them each user has, from 0."""
    gains = user_gains(ranks, n_targets[n_targets > 0])
    ends = bootstrap_intervals({"ndcg@10": gains["ndcg@10"]})["ndcg@10"]
    return {
        "n_users": len(gains["ndcg@10"]),
        "ndcg@10": round(float(gains["ndcg@10"].mean()), 6),
        "ndcg@10_interval": [round(end, 6) for end in ends],
        "hit_rate@10": round(float(gains["hit_rate@10"].mean()), 6),
    }
