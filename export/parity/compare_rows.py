"""Compare one row of an answer with the expected one, clause by clause of the contract."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnrec.runtime.model_file.format import score_tolerance
from attnrec.train.evaluation.torch_recommender import top_rows

ATTENTION_TOLERANCE = 1e-4
"""Tolerance of an attention weight; the weights of a row sum to 1."""


@dataclass(frozen=True, eq=False)
class ExpectedRow:
    """The answer of the torch model to one row of a call."""

    scores: NDArray[np.float32]
    """Score of every item (N + 1,); column 0 belongs to no item."""
    admissible: NDArray[np.bool_]
    """Which rows may be returned (N + 1,)."""
    n_known: int
    """Known ids of the history."""
    k: int
    """Width of the answer, between 0 and N."""
    tolerance: float
    """Tolerance of a score."""
    attention: NDArray[np.float32] | None = None
    """Weight of each event (W,), aligned with the newest one; None: the model has none."""
    n_allowed: int | None = None
    """Items that may be returned; None: the file does not say."""
    may_miss: bool = False
    """The file scores only items that a scan has found."""


@dataclass(frozen=True, eq=False)
class AnsweredRow:
    """The answer of the file, ids turned back into rows: 0 where it returned padding."""

    rows: NDArray[np.int64]
    """Catalogue rows (K,); -1 for an id that is neither an item nor padding."""
    scores: NDArray[np.float32]
    """Scores (K,)."""
    n_known: int
    """As returned."""
    attention: NDArray[np.float32] | None = None
    """Weights (W,); None: the file has no such output."""
    n_allowed: int | None = None
    """As returned; None likewise."""


@dataclass(frozen=True)
class RowComparison:
    """The outcome of one comparison."""

    fault: str | None
    """The clause that does not hold, with both values; None: all hold."""
    difference: float
    """Largest |score - reference| of the items returned."""
    tolerance: float
    """Tolerance of a score in this row."""
    same_top_10: bool
    """The first ten are the same items in the same order."""
    found: float
    """Share of the k best items that were returned."""


class ScanRecall:
    """Share of the best k items of test users that a scan has found, by k."""

    def __init__(self) -> None:
        self._shares: dict[int, list[float]] = {}

    def add(self, k: int, share: float) -> None:
        """Count a user: this share of the best k items was found."""
        self._shares.setdefault(k, []).append(share)

    def share(self, k: int) -> float:
        """The mean over users; 1 without users."""
        return float(np.mean(self._shares.get(k, [1.0])))

    def to_json(self) -> dict[str, float]:
        """The mean of each k."""
        return {f"found@{k}": round(self.share(k), 5) for k in sorted(self._shares)}


def compare(answer: AnsweredRow, expected: ExpectedRow) -> RowComparison:
    """Check n_known, width, items, scores, order and padding of one answer.

    Scores lie within the tolerance; the items are those of the reference in its order, except
    where the reference's own scores differ by at most twice the tolerance.
    """
    tolerance = expected.tolerance
    best = top_rows(expected.scores, expected.admissible, expected.k)
    n = len(best)
    rows, scores = answer.rows[:n], answer.scores[:n]

    def finding(fault: str | None, difference: float = 0.0, same: bool = False) -> RowComparison:
        share = float(np.isin(best, rows).mean()) if n and expected.may_miss else 1.0
        return RowComparison(fault, difference, tolerance, same, share)

    if answer.n_known != expected.n_known:
        return finding(f"n_known is {answer.n_known}, not {expected.n_known}")
    if len(answer.rows) != expected.k:
        return finding(f"{len(answer.rows)} columns, not {expected.k}")
    if (fault := _wrong_items(answer, expected, n)) is not None:
        return finding(fault)
    difference = float(np.abs(scores - expected.scores[rows]).max(initial=0))
    if not difference <= tolerance:  # not `>`: NaN is a fault as well
        return finding(f"a score is off by {difference:.3g}, above {tolerance:.3g}", difference)
    apart = np.abs(expected.scores[rows] - expected.scores[best])
    if not expected.may_miss and not (apart <= 2 * tolerance).all():
        place = int(apart.argmax())
        return finding(
            f"place {place + 1} is row {rows[place]}, not row {best[place]}", difference
        )
    if not _in_order(rows, scores):
        return finding("not in order: highest score first, equal scores by row", difference)
    if (fault := _wrong_rest(answer, expected)) is not None:
        return finding(fault, difference)
    return finding(None, difference, bool((rows[:10] == best[:10]).all()))


def _wrong_items(answer: AnsweredRow, expected: ExpectedRow, n: int) -> str | None:
    """The fault of an answer that is not n different items that may be returned."""
    rows = answer.rows[:n]
    if (answer.rows[n:] != 0).any() or (answer.scores[n:] != -np.inf).any():
        return f"more than the {n} items that may be returned"
    if (rows <= 0).any() or not expected.admissible[rows].all() or len(set(rows.tolist())) < n:
        return "an item that may not be returned, or one twice"
    return None


def _wrong_rest(answer: AnsweredRow, expected: ExpectedRow) -> str | None:
    """The fault of what comes with the items."""
    if answer.n_allowed != expected.n_allowed:
        return f"n_allowed is {answer.n_allowed}, not {expected.n_allowed}"
    if not _same_weights(answer.attention, expected.attention):
        return "attention is not that of the model"
    return None


def _in_order(rows: NDArray[np.int64], scores: NDArray[np.float32]) -> bool:
    """Whether the highest score is first, and equal scores are in the order of the rows."""
    ties = scores[1:] == scores[:-1]
    return not ((scores[1:] > scores[:-1]).any() or (rows[1:] < rows[:-1])[ties].any())


def disagreement(alone: AnsweredRow, together: AnsweredRow) -> tuple[float, bool]:
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
    """Whether both weigh the same events alike; in a batch a row may have more padding."""
    if given is None or own is None:
        return given is own
    width = min(len(given), len(own))
    if given[: len(given) - width].any() or own[: len(own) - width].any():
        return False
    apart = np.abs(given[len(given) - width :] - own[len(own) - width :])
    return bool((apart <= ATTENTION_TOLERANCE).all())
