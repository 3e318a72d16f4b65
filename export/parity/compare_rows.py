"""One answer of a file beside the truth: what the contract promises of a row."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.model_file.format import score_tolerance
from attnrec.train.evaluation.torch_recommender import top_rows

ATTENTION_TOLERANCE = 1e-4
"""How far a weight, of 1 altogether, may lie from that of the model."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What the reference says about one row of a call."""

    scores: NDArray[np.float32]
    """Score of every item (N + 1,); column 0 belongs to no item."""
    admissible: NDArray[np.bool_]
    """Which rows may be returned (N + 1,)."""
    n_known: int
    """Known ids of the history."""
    k: int
    """Width of the answer, between 0 and N."""
    tolerance: float
    """How far a score may lie from its own."""
    attention: NDArray[np.float32] | None = None
    """Weight of each event (W,), aligned with the newest one; None: the model has none."""
    may_miss: bool = False
    """The file scores only what a scan has found."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What the file says, ids turned back into rows: 0 where it returned padding."""

    rows: NDArray[np.int64]
    """Catalogue rows (K,); -1 for an id that is neither an item nor padding."""
    scores: NDArray[np.float32]
    """Scores (K,)."""
    n_known: int
    """As returned."""
    attention: NDArray[np.float32] | None = None
    """Weights (W,); None: the file gives out none."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one comparison."""

    fault: str | None
    """Which clause does not hold, with both values; None: all do."""
    difference: float
    """Largest |score - reference| of the items returned."""
    tolerance: float
    """What is tolerated in this row."""
    same_top_10: bool
    """The first ten are the same items in the same order."""
    found: float
    """Share of the best items, as many as were asked for, that were returned."""


class Found:
    """How many of the best items of test users a scan has found, by how many were asked for."""

    def __init__(self) -> None:
        self._shares: dict[int, list[float]] = {}

    def add(self, k: int, share: float) -> None:
        """Count a user of whose best k items this share was found."""
        self._shares.setdefault(k, []).append(share)

    def share(self, k: int) -> float:
        """Of the best k, the mean over users; 1 without users."""
        return float(np.mean(self._shares.get(k, [1.0])))

    def to_json(self) -> dict[str, float]:
        """Of what was asked for."""
        return {f"found@{k}": round(self.share(k), 5) for k in sorted(self._shares)}


def compare(answer: Answer, truth: Truth) -> Finding:
    """Check n_known, width, items, scores, order and padding of one answer.

    Scores lie within the tolerance; the items are those of the reference in its order, except
    where the reference's own scores differ by at most twice the tolerance.
    """
    tolerance = truth.tolerance
    expected = top_rows(truth.scores, truth.admissible, truth.k)
    n = len(expected)
    rows, scores = answer.rows[:n], answer.scores[:n]

    def finding(fault: str | None, difference: float = 0.0, same: bool = False) -> Finding:
        share = float(np.isin(expected, rows).mean()) if n and truth.may_miss else 1.0
        return Finding(fault, difference, tolerance, same, share)

    if answer.n_known != truth.n_known:
        return finding(f"n_known is {answer.n_known}, not {truth.n_known}")
    if len(answer.rows) != truth.k:
        return finding(f"{len(answer.rows)} columns, not {truth.k}")
    if (answer.rows[n:] != 0).any() or (answer.scores[n:] != -np.inf).any():
        return finding(f"more than the {n} items that may be returned")
    if (rows <= 0).any() or not truth.admissible[rows].all() or len(set(rows.tolist())) < n:
        return finding("an item that may not be returned, or one twice")
    difference = float(np.abs(scores - truth.scores[rows]).max(initial=0))
    if not difference <= tolerance:  # not `>`: NaN is a fault as well
        return finding(f"a score is off by {difference:.3g}, above {tolerance:.3g}", difference)
    apart = np.abs(truth.scores[rows] - truth.scores[expected])
    if not truth.may_miss and not (apart <= 2 * tolerance).all():
        place = int(apart.argmax())
        return finding(
            f"place {place + 1} is row {rows[place]}, not row {expected[place]}", difference
        )
    ties = scores[1:] == scores[:-1]
    if (scores[1:] > scores[:-1]).any() or (rows[1:] < rows[:-1])[ties].any():
        return finding("not in order: highest score first, equal scores by row", difference)
    if not _same_weights(answer.attention, truth.attention):
        return finding("attention is not that of the model", difference)
    return finding(None, difference, bool((rows[:10] == expected[:10]).all()))


def disagreement(alone: Answer, together: Answer) -> tuple[float, bool]:
    """Batch invariance: how far the scores of one row lie apart, and whether that is too far.

    The lists may differ where scores are closer than twice the tolerance, so scores are compared
    place by place.
    """
    a, b = alone.scores, together.scores
    if (np.isfinite(a) != np.isfinite(b)).any() or alone.n_known != together.n_known:
        return np.inf, True
    if not _same_weights(together.attention, alone.attention):
        return np.inf, True
    finite = np.isfinite(a)
    difference = float(np.abs(a[finite] - b[finite]).max(initial=0))
    return difference, difference > score_tolerance(float(np.abs(a[finite]).max(initial=0)))


def _same_weights(given: NDArray[np.float32] | None, own: NDArray[np.float32] | None) -> bool:
    """Whether both weigh the same events alike; in company a row may have more padding."""
    if given is None or own is None:
        return given is own
    width = min(len(given), len(own))
    if given[: len(given) - width].any() or own[: len(own) - width].any():
        return False
    apart = np.abs(given[len(given) - width :] - own[len(own) - width :])
    return bool((apart <= ATTENTION_TOLERANCE).all())
