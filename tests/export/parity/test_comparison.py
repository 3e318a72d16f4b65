"""Every clause that the gate checks of a row, broken one at a time."""

from dataclasses import replace

import numpy as np
import pytest

from attnrec.export.parity.compare_rows import AnsweredRow, ExpectedRow, compare, disagreement

# Row 3 is best, rows 1 and 2 are equal, row 4 is last; row 5 may not be returned.
TRUTH = ExpectedRow(
    scores=np.array([99, 2, 2, 3, 1, 50], dtype=np.float32),
    admissible=np.array([False, True, True, True, True, False]),
    n_known=7,
    k=5,
    tolerance=50e-5,
)


def answer(rows: list[int], scores: list[float], n_known: int = 7) -> AnsweredRow:
    return AnsweredRow(np.array(rows), np.array(scores, dtype=np.float32), n_known)


RIGHT = answer([3, 1, 2, 4, 0], [3, 2, 2, 1, -np.inf])


def fault_of(given: AnsweredRow, truth: ExpectedRow = TRUTH) -> str | None:
    return compare(given, truth).fault


def test_the_right_answer_has_no_fault() -> None:
    finding = compare(RIGHT, TRUTH)
    assert finding.fault is None
    assert finding.same_top_10
    assert (finding.difference, finding.tolerance) == (0.0, pytest.approx(50e-5))


@pytest.mark.parametrize(
    ("wrong", "clause"),
    [
        (replace(RIGHT, n_known=6), "n_known is 6, not 7"),
        (answer([3, 1, 2, 4], [3, 2, 2, 1]), "4 columns, not 5"),
        (answer([3, 1, 2, 4, 5], [3, 2, 2, 1, -np.inf]), "more than the 4 items"),
        (answer([3, 1, 2, 4, 0], [3, 2, 2, 1, 0]), "more than the 4 items"),
        (answer([5, 3, 1, 2, 0], [50, 3, 2, 2, -np.inf]), "an item that may not be returned"),
        (answer([0, 3, 1, 2, 0], [99, 3, 2, 2, -np.inf]), "an item that may not be returned"),
        (answer([3, 1, 1, 4, 0], [3, 2, 2, 1, -np.inf]), "or one twice"),
        (answer([3, 1, 2, 4, 0], [3.001, 2, 2, 1, -np.inf]), "a score is off by 0.001"),
        (answer([3, 1, 2, 4, 0], [3, np.nan, 2, 1, -np.inf]), "a score is off by nan"),
        (answer([3, 1, 2, 4, 0], [3, 2, -np.inf, 1, -np.inf]), "a score is off by inf"),
        (answer([3, 1, 4, 2, 0], [3, 2, 1, 2, -np.inf]), "place 3 is row 4, not row 2"),
        (answer([3, 2, 1, 4, 0], [3, 2, 2, 1, -np.inf]), "not in order"),
        (answer([3, 1, 2, 4, 0], [3, 2, 2.0001, 1, -np.inf]), "not in order"),
    ],
)
def test_a_broken_clause_is_named(wrong: AnsweredRow, clause: str) -> None:
    assert clause in (fault_of(wrong) or "no fault")


def test_an_id_that_is_no_item_is_a_fault() -> None:
    # numpy would take row -1 for the last item.
    all_admissible = replace(TRUTH, admissible=np.array([False, True, True, True, True, True]))
    assert fault_of(answer([5, 3, 1, 2, 4], [50, 3, 2, 2, 1]), all_admissible) is None
    assert fault_of(answer([-1, 3, 1, 2, 4], [50, 3, 2, 2, 1]), all_admissible) is not None


def test_items_missing_from_the_end_are_a_fault() -> None:
    assert fault_of(answer([3, 1, 2, 0, 0], [3, 2, 2, -np.inf, -np.inf])) is not None


def test_a_better_item_left_out_is_a_fault() -> None:
    short = replace(TRUTH, k=2)
    assert fault_of(answer([3, 1], [3, 2]), short) is None
    assert fault_of(answer([1, 2], [2, 2]), short) == "place 1 is row 1, not row 3"


def test_items_closer_than_the_tolerance_may_change_places() -> None:
    near = replace(TRUTH, scores=np.array([0, 2, 2.0004, 3, 1, 50], dtype=np.float32))
    finding = compare(answer([3, 1, 2, 4, 0], [3, 2.0002, 2.0002, 1, -np.inf]), near)
    assert finding.fault is None
    assert not finding.same_top_10


@pytest.mark.parametrize(
    ("other", "too_far"),
    [
        (RIGHT, False),
        (answer([3, 2, 1, 4, 0], [3.00002, 2, 2, 1, -np.inf]), False),
        (answer([3, 1, 2, 4, 0], [3.0001, 2, 2, 1, -np.inf]), True),
        (answer([3, 1, 2, 0, 0], [3, 2, 2, -np.inf, -np.inf]), True),
        (replace(RIGHT, n_known=6), True),
    ],
)
def test_a_row_must_score_alone_as_among_others(other: AnsweredRow, too_far: bool) -> None:
    assert disagreement(RIGHT, other)[1] == too_far
    assert disagreement(other, RIGHT)[1] == too_far
