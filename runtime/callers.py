"""Who asks, and what is known of them: inputs that only files of some models declare."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from attnrec.runtime import format as names
from attnrec.runtime.arguments import IdArray, id_lists, id_row, stack
from attnrec.runtime.model_info import ModelInfo

UserIds = Sequence[int | str | None] | np.ndarray[Any, Any]
Tags = Sequence[str] | np.ndarray[Any, Any]


def caller_inputs(
    info: ModelInfo, n_rows: int, users: UserIds | None, tags: Sequence[Tags | None] | None
) -> dict[str, IdArray]:
    """The declared ones of `user` (n_rows,) and `user_tags` (n_rows, A), for as many histories.

    None, as a whole or in a row, stands for nobody and for no tags. `ValueError` for what the
    file does not declare, and for what is no id or no tag.
    """
    given = {names.USER: users, names.USER_TAGS: tags}
    for name, value in given.items():
        if value is not None and name not in info.inputs:
            raise undeclared(info, name)
    found = {}
    if names.USER in info.inputs:
        id_type = info.user_id_type or "string"
        nobody = names.PADDING[id_type]
        rows = (
            [None] * n_rows if users is None else id_lists("users", users, n_rows, "ids of users")
        )
        asked = [nobody if user is None else user for user in rows]
        found[names.USER] = id_row("users", asked, id_type, "user ids")
    if names.USER_TAGS in info.inputs:
        what = "lists of user tags"
        lists = [()] * n_rows if tags is None else id_lists("user_tags", tags, n_rows, what)
        texts = [
            id_row(f"user_tags[{i}]", () if own is None else own, "string", "user tags")
            for i, own in enumerate(lists)
        ]
        found[names.USER_TAGS] = stack(texts, "string", names.PADDING["string"])
    return found


def undeclared(info: ModelInfo, name: str) -> ValueError:
    """The refusal of an input that the file does not have."""
    return ValueError(
        f"this file does not declare the input {name!r} "
        f"(it declares: {', '.join(info.inputs)}); leave it out"
    )
