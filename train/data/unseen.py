"""Which events of a log a model has not seen: only they can measure it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnrec.train.data.interactions import Interactions


@dataclass(frozen=True, eq=False)
class Unseen:
    """Where the events begin that a model has not seen."""

    start: NDArray[np.int64]
    """Place in the log of the first such event of each user, or the user's end (n_users,)."""
    reason: str
    """What is wrong with a target before it, for people; "they are" goes before."""

    def and_of(self, other: "Unseen | None") -> "Unseen":
        """What neither of two models has seen of the same log."""
        if other is None or other.reason == self.reason:
            return self
        start = np.maximum(self.start, other.start)
        return Unseen(start, f"{self.reason}, or {other.reason}")


def newest_time(log: Interactions, n_seen: NDArray[np.int64]) -> int:
    """Unix seconds of the newest of the first `n_seen` events of each user (n_users,)."""
    last = log.offsets[:-1] + n_seen - 1
    return int(log.timestamps[last[n_seen > 0]].max())


def after_time(log: Interactions, seconds: int, who: str) -> Unseen:
    """Events after this time. who: the model that has seen others, for people."""
    user = np.repeat(np.arange(log.n_users), np.diff(log.offsets))
    n_seen = np.bincount(user[log.timestamps <= seconds], minlength=log.n_users)
    newest = f"{np.datetime64(seconds, 's')} UTC"
    return Unseen(
        log.offsets[:-1] + n_seen, f"not after {newest}, the newest event that {who} has seen"
    )


def after_sequences(
    log: Interactions, before: Interactions, n_seen: NDArray[np.int64], who: str
) -> Unseen:
    """What follows the first `n_seen` events (n_users of `before`,) of a user, for logs of orders.

    A user whose events do not begin with those that were seen has no unseen event, and neither
    has a user who is not in `before`: the same person may have another id there.
    """
    item_of = {item: number for number, item in enumerate(log.item_ids.tolist())}
    items = np.array([item_of.get(item, -1) for item in before.item_ids.tolist()])
    # One text among the ids of a log makes texts of them all, in that log alone.
    known = {str(user): number for number, user in enumerate(before.user_ids.tolist())}
    start = log.offsets[1:].copy()
    for user, user_id in enumerate(log.user_ids.tolist()):
        if (number := known.get(str(user_id))) is None:
            continue
        seen = items[before.sequence(number)[: n_seen[number]]]
        if np.array_equal(log.sequence(user)[: len(seen)], seen):
            start[user] = log.offsets[user] + len(seen)
    return Unseen(start, f"not behind the events of a user that {who} has seen")
