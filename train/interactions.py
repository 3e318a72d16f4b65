"""The interaction log in memory: flat arrays, one slice per user."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interactions:
    """A prepared log. The events of user ``u`` are ``[offsets[u], offsets[u + 1])``, oldest first.

    Flat arrays instead of a list per user: ten million events take 160 MB, not gigabytes.
    """

    user_ids: NDArray[np.int64] | NDArray[np.object_]
    """Raw user ids (n_users,), int64 or str."""
    item_ids: NDArray[np.int64] | NDArray[np.object_]
    """Raw item ids (n_items,), int64 or str; `item_index` points into this array."""
    offsets: NDArray[np.int64]
    """Start of each user's events and the total at the end (n_users + 1,)."""
    item_index: NDArray[np.int32]
    """Item of each event (n_events,)."""
    timestamps: NDArray[np.int64]
    """Unix seconds of each event (n_events,), or its place in the order where the log has no time."""
    titles: NDArray[np.object_] | None
    """What a person calls each item (n_items,); "" where unknown, None when there are no titles."""
