"""Lists of different lengths, checked and stored as one array."""

from collections.abc import Sequence
from itertools import chain, islice

import numpy as np

from attnrec.runtime.arguments import IdArray, Ids, as_ids, id_row, plain_list
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.format import LONGEST

_ROWS = 4096
"""Lists that are looked through in one pass: their ids are in memory once more meanwhile."""


class Ragged:
    """The ids of many lists, one after the other. `ValueError` names the first that is wrong."""

    def __init__(self, name: str, lists: Sequence[Ids], id_type: str) -> None:
        """name: of the argument, for messages."""
        self.lengths = np.zeros(len(lists), dtype=np.int64)
        parts = [np.empty(0, dtype=np.int64 if id_type == "int64" else object)]
        rest = iter(lists)
        for start in range(0, len(lists), _ROWS):
            rows = [plain_list(ids) for ids in islice(rest, _ROWS)]
            part: IdArray | None = None
            if all(row is not None and len(row) <= LONGEST for row in rows):
                # Many in one pass: by themselves, lists of 50 cost three times as much.
                part = as_ids(list(chain.from_iterable(filter(None, rows))), id_type)
            if part is None:
                for i, ids in enumerate(lists):
                    id_row(f"{name}[{i}]", ids, id_type)  # says what is wrong
                raise AssertionError(f"{name} are wrong as a whole, but not one by one")
            self.lengths[start : start + _ROWS] = [len(row or ()) for row in rows]
            parts.append(part)
        self._starts = np.cumsum(self.lengths) - self.lengths
        self._padding = int(self.lengths.sum())
        parts.append(np.array([names.PADDING[id_type]], dtype=parts[0].dtype))
        self._flat = np.concatenate(parts)

    def stacked(self, rows: Sequence[int]) -> IdArray:
        """Some of the lists as one array (B, longest), padded at the end."""
        lengths = self.lengths[rows, None]  # (B, 1)
        place = np.arange(lengths.max(initial=0))  # (T,)
        where = np.where(place < lengths, self._starts[rows, None] + place, self._padding)
        found: IdArray = self._flat[where]
        return found
