"""The raw ids that go into a file: their type, and what no file can hold."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from attnrec.runtime.model_file import format as names
from attnrec.train.data.split import Catalogue, Split
from attnrec.train.data.users import Users


def id_type_of(catalogue: Catalogue) -> names.IdType:
    """Type of the item ids in the file."""
    return "int64" if catalogue.item_ids.dtype == np.int64 else "string"


def check_ids(split: Split, inputs: Sequence[str]) -> None:
    """`ValueError` for ids that the file of a model with these inputs could not hold."""
    check_catalogue(split.catalogue)
    if inputs:
        check_users(split.users)


def check_catalogue(catalogue: Catalogue) -> None:
    """`ValueError` for a catalogue that would answer wrongly: reserved, repeated or broken ids."""
    ids = catalogue.item_ids.tolist()
    if not ids:
        raise ValueError("the catalogue is empty; train on a log with events")
    id_type = id_type_of(catalogue)
    padding = names.PADDING[id_type]
    if padding in ids:
        raise ValueError(
            f"the catalogue holds the item id {padding!r}, which stands for padding; rename it"
        )
    if len(set(ids)) != len(ids):
        twice = next(item_id for item_id, n in Counter(ids).items() if n > 1)
        raise ValueError(f"the catalogue holds the item id {twice!r} twice; rename one of them")
    titles = [] if catalogue.titles is None else catalogue.titles.tolist()
    check_texts("the items", (*ids, *titles) if id_type == "string" else titles)


def check_users(users: Users) -> None:
    """`ValueError` for user ids or tags that the file could not tell from nobody, or not hold."""
    nobody = names.PADDING["int64" if users.ids.dtype == np.int64 else "string"]
    known = users.ids.tolist()
    if nobody in known:
        raise ValueError(f"there is a user {nobody!r}, which stands for nobody; rename that user")
    check_texts("the users", (*map(str, known), *users.tags))


def check_texts(what: str, texts: Iterable[str]) -> None:
    """`ValueError` for a lone surrogate: it has no UTF-8, so the file could not hold it."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{what} hold {text!r}, which is not valid Unicode; rename it"
            ) from error
