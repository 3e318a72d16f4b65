"""The list of items that are never returned: a text file, as people and spreadsheets save it."""

import re
from collections.abc import Iterator
from pathlib import Path

from attnrec.runtime.recommender import Recommender


def read_unavailable(path: Path, recommender: Recommender) -> set[int | str]:
    """Ids of a file of one a line, in UTF-8, with or without a byte order mark.

    Blanks around an id and the quotes of a spreadsheet belong to it only if the model knows it
    with them. `ValueError` names the line that holds no id of the model's type.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"--unavailable {path} cannot be read: {reason}; give one item id a line, in UTF-8"
        ) from error
    ids = [(number, line.removesuffix("\r")) for number, line in enumerate(lines, start=1)]
    filled = [(number, text) for number, text in ids if text.strip()]
    if recommender.info.id_type == "int64":
        return {_number(text, f"--unavailable {path}, line {number}") for number, text in filled}
    texts = [text for _, text in filled]
    if all(text == _bare(text) for text in texts):
        return {*texts}
    known = set(recommender.stored().item_ids())
    # A line that is no id in any way stays as it is, for the message that names it.
    return {next((way for way in _readings(text) if way in known), text) for text in texts}


def _readings(text: str) -> Iterator[str]:
    """What may be meant, the first that is an id."""
    yield text
    bare = text.strip()
    yield bare
    if len(bare) > 1 and bare[0] == bare[-1] == '"':
        inner = bare[1:-1].replace('""', '"')
        yield inner
        yield inner.strip()


def _bare(text: str) -> str:
    return [*_readings(text)][-1]


def _number(text: str, where: str) -> int:
    bare = _bare(text)
    # Not any text that int() takes: "1_0" is no way to write 10.
    if re.fullmatch("-?[0-9]{1,19}", bare) and -(2**63) <= int(bare) < 2**63:
        return int(bare)
    raise ValueError(
        f"{where}: {text[:60]!r} is no id; item ids of this model are whole numbers (int64): "
        "correct the line or leave it out"
    )
