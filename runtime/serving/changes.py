"""What another file would take from the clients of the one that is served."""

from attnrec.runtime.model_file.format import LONGEST
from attnrec.runtime.recommender import Recommender

_LEAST_KEPT = 0.8
"""Share of the item ids served so far that a new file has to know."""


def lost_in(new: Recommender, old: Recommender) -> list[str]:
    """Each as a text with both values; empty where requests of now will still be answered."""
    lost = [
        f"{what} were {_words(before)}, now {_words(after)}"
        for what, before, after in (
            ("item ids", old.info.id_type, new.info.id_type),
            ("user ids", old.info.user_id_type, new.info.user_id_type),
        )
        if before not in (None, after)
    ]
    gone = [name for name in old.info.inputs if name not in new.info.inputs]
    if gone:
        lost.append(f"requests may no longer have {', '.join(gone)}")
    if new.info.id_type == old.info.id_type:
        n_kept, n_old = _n_kept(new, old), old.info.n_items
        if n_kept < _LEAST_KEPT * n_old:
            lost.append(
                f"it knows {n_kept} of the {n_old} item ids that are served, "
                f"below {_LEAST_KEPT:.0%}"
            )
    return lost


def _n_kept(new: Recommender, old: Recommender) -> int:
    """How many ids of the old file the new one knows.

    The old file is perhaps no longer on the disk, and its ids are not kept beside its graph. So
    the graph is asked: it counts the known ids of a history.
    """
    if new.info.catalogue_sha256 == old.info.catalogue_sha256:
        return old.info.n_items
    ids = new.stored().item_ids()
    n_kept = 0
    for start in range(0, len(ids), LONGEST):
        part = ids[start : start + LONGEST]
        # One candidate: the rest of the catalogue need not be scored.
        n_kept += old.recommend(part, 1, candidates=part[:1], exclude_seen=False).n_known
    return n_kept


def _words(id_type: str | None) -> str:
    return {"int64": "whole numbers", "string": "strings"}.get(id_type or "", "not known")
