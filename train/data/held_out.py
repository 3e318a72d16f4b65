"""The questions of an evaluation: what is asked of which user, and what came next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.model_file import format as names

ItemIds = NDArray[np.int64] | NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The questions of an evaluation: raw ids, as a customer of the file would send them."""

    histories: list[ItemIds]
    """Events before the target, oldest first, one array per user; the newest LONGEST."""
    targets: ItemIds
    """What came next (n_targets,), user by user; an item counts once in a session."""
    users: ItemIds
    """Who is asked: raw user ids (n_users,)."""
    offsets: NDArray[np.int64] | None = None
    """Start of each user's targets and the total (n_users + 1,); None: one target each."""
    timestamps: list[NDArray[np.int64]] = field(default_factory=list)
    """Unix seconds of the events of `histories`, for models that ask for them."""
    request_times: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Unix seconds of what came next, of its first event (n_users,)."""
    user_tags: list[tuple[str, ...]] | None = None
    """Tags of each user who is asked; None: the log has none."""
    older: Mapping[int, ItemIds] = field(default_factory=dict)
    """Events before those of `histories`, by number of the user, at most LONGEST: seen as well."""
    n_left_out: int = 0
    """Users who are not asked, because the model has seen their targets."""

    def between(self, start: int, stop: int) -> "HeldOut":
        """The questions of the users from `start` to before `stop`."""
        times = self.timestamps[start:stop], self.request_times[start:stop]
        older = {n - start: ids for n, ids in self.older.items() if start <= n < stop}
        own = *times, self.user_tags and self.user_tags[start:stop], older
        histories, users = self.histories[start:stop], self.users[start:stop]
        if self.offsets is None:
            return HeldOut(histories, self.targets[start:stop], users, None, *own)
        offsets = self.offsets[start : stop + 1]
        targets = self.targets[offsets[0] : offsets[-1]]
        return HeldOut(histories, targets, users, offsets - offsets[0], *own)

    def said(self, inputs: Sequence[str]) -> dict[str, Any]:
        """What a model that declares `inputs` is told beside the histories, by its argument."""
        told: dict[str, Any] = {"users": self.users} if names.USER in inputs else {}
        # With the user come the stored tags.
        if names.USER_TAGS in inputs and not told and self.user_tags is not None:
            told["user_tags"] = self.user_tags
        if names.TIMESTAMPS in inputs:
            told |= {"timestamps": self.timestamps, "request_times": self.request_times}
        return told

    def n_targets(self) -> NDArray[np.int64]:
        """Targets of each user (n_users,)."""
        if self.offsets is None:
            return np.ones(len(self.histories), dtype=np.int64)
        return np.diff(self.offsets)
