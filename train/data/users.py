"""What is known of users, as rows: for models that ask for more than the history."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnrec.train.data.interactions import Interactions

Ids = NDArray[np.int64] | NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Users:
    """The users of a log; user r of a model, counted from 1, is user_ids[r - 1] of the log."""

    ids: Ids
    """Raw ids (n_users,)."""
    tags: tuple[str, ...]
    """Every tag that a user of the log has, sorted; tag a of a model, from 1, is tags[a - 1]."""
    tag_rows: NDArray[np.int64]
    """Tags of row 0 (nobody) and of each user (n_users + 1, A), 0 where there are fewer than A."""

    @classmethod
    def of(cls, log: Interactions) -> "Users":
        """The users of `log`, with their tags if it has any."""
        tags_of = [()] * log.n_users if log.user_tags is None else log.user_tags.tolist()
        tags = tuple(sorted({tag for own in tags_of for tag in own}))
        row = {tag: place for place, tag in enumerate(tags, start=1)}
        tag_rows = np.zeros((log.n_users + 1, max(map(len, tags_of), default=0)), dtype=np.int64)
        for rows, own in zip(tag_rows[1:], tags_of, strict=True) if tags else ():
            rows[: len(own)] = [row[tag] for tag in own]
        return cls(log.user_ids, tags, tag_rows)
