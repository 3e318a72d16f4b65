"""The users of a log as rows, for models with user inputs."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.arguments import IdArray
from attnrec.runtime.model_file import format as names
from attnrec.train.data.interactions import Interactions


@dataclass(frozen=True, eq=False)
class Users:
    """The users of a log; user r of a model, counted from 1, is user_ids[r - 1] of the log."""

    ids: IdArray
    """Raw ids (n_users,)."""
    tags: tuple[str, ...]
    """Every tag that a user of the log has, sorted; tag a of a model, from 1, is tags[a - 1]."""
    tag_rows: NDArray[np.int64]
    """Tags of row 0 (unknown users) and of each user (n_users + 1, A), 0 for fewer than A."""

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

    def check(self) -> None:
        """`ValueError` for the padding value as an id, and for texts that no file can hold."""
        padding = names.PADDING["int64" if self.ids.dtype == np.int64 else "string"]
        known = self.ids.tolist()
        if padding in known:
            raise ValueError(
                f"there is a user {padding!r}, which stands for an unknown user; rename that user"
            )
        check_texts("the users", (*map(str, known), *self.tags))


def check_texts(what: str, texts: Iterable[str]) -> None:
    """`ValueError` for a lone surrogate: it has no UTF-8, so the file could not hold it."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{what} hold {text!r}, which is not valid Unicode; rename it"
            ) from error
