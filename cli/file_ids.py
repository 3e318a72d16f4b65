"""Ids as they are written on a command line, and whether a model file knows them."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from attnrec.runtime import Recommender
from attnrec.runtime.errors import counted
from attnrec.runtime.model_file.format import PADDING

_NAMED = 5  # unknown ids of a message


class FileIds:
    """The item ids of a file; all of them are read when one is first looked up."""

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self._is_text = recommender.info.id_type == "string"

    def one(self, text: str) -> int | str:
        """An id in the type of the file. `ValueError` for no number where ids are numbers."""
        return text if self._is_text else number(text, "item", self.examples[:1])

    def listed(self, text: str) -> list[int | str]:
        """Ids of "A, B,C". Blanks around an id belong to it only if the file knows it so.

        `ValueError` for nothing between two commas.
        """
        parts = text.split(",") if text.strip() else []
        if not self._is_text:
            return [self.one(part.strip()) for part in parts]
        if parts and not parts[-1].strip():  # a comma at the end separates nothing
            parts.pop()
        if not all(part.strip() for part in parts):
            raise ValueError(
                f"{text[:60]!r} has an empty id beside a comma; leave that comma out, or give ids "
                "with commas in them as JSON lines"
            )
        return [
            part if part == part.strip() or part in self._known else part.strip() for part in parts
        ]

    def unknown(self, lists: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
        """Of each list the ids that the file does not know; lists without such are left out."""
        missing = {
            name: [item_id for item_id in dict.fromkeys(ids) if item_id not in self._known]
            for name, ids in lists.items()
        }
        return {name: ids for name, ids in missing.items() if ids}

    def knows_user(self, user: int | str) -> bool:
        """Whether the file has learned anything of a user, or the id stands for no user."""
        return user in self._users or user in PADDING.values()

    def with_comma(self, text: str) -> str | None:
        """An id of the file that has a comma in it and is a part of "A,B,C"; None: none is."""
        return next(
            (str(one) for one in self._known if "," in str(one) and str(one) in text), None
        )

    @property
    def as_option(self) -> str:
        """Ids of the file, as --history takes them."""
        return shlex.quote(",".join(str(one) for one in self.examples if "," not in str(one)))

    @property
    def as_line(self) -> str:
        """The same as a JSON line."""
        return json.dumps({"history": self.examples}, ensure_ascii=False)

    @cached_property
    def examples(self) -> list[int] | list[str]:
        """Two items that the model recommends after an empty history."""
        return self._recommender.recommend([], 2, exclude_seen=False).item_ids

    @cached_property
    def _known(self) -> frozenset[int | str]:
        return frozenset(self._recommender.stored().item_ids())

    @cached_property
    def _users(self) -> frozenset[int | str]:
        return frozenset(self._recommender.stored().user_ids())


def counts(lists: Mapping[str, list[Any]], unknown: Mapping[str, list[Any]]) -> list[str]:
    """A line for each list of ids: how many of them a file knows, and which it does not."""
    lines = []
    for name, ids in lists.items():
        missing = unknown.get(name, [])
        gone = set(missing)
        n_known = sum(item_id not in gone for item_id in ids)
        named = ", ".join(map(repr, missing[:_NAMED])) + ", ..." * (len(missing) > _NAMED)
        not_known = f"; not {named}" if missing else ""
        lines.append(f"{name}: the file knows {n_known} of {counted(len(ids), 'id')}{not_known}")
    return lines


def number(text: str, of_what: str, examples: Iterable[int | str] = ()) -> int:
    """An id that is a number. Not any text that int() takes: "1_0" is no way to write 10."""
    is_number = re.fullmatch("-?[0-9]+", text) is not None
    # Python reads no number of thousands of digits.
    if is_number and len(text) < 100 and -(2**63) <= int(text) < 2**63:
        return int(text)
    problem = "is beyond int64" if is_number else "is no number"
    such_as = "".join(f", such as {one}" for one in examples)
    raise ValueError(f"{text[:60]!r} {problem}; {of_what} ids of this file are int64{such_as}")
