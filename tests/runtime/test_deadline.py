"""A computation that takes too long is ended, and the next one is not."""

import time

import pytest

from attnrec.runtime.deadline import Deadline, DeadlineExceeded


def test_a_long_computation_ends_near_its_deadline_and_the_next_is_answered(numbers) -> None:
    deadline = Deadline(0.1)
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"0\.1 seconds"):
        deadline.run(lambda: [numbers.recommend([1] * 10_000) for _ in range(100_000)])
    assert time.monotonic() - begun < 20  # all of them would take minutes
    assert deadline.run(lambda: numbers.recommend([1])) == numbers.recommend([1])
    assert len(numbers.recommend([1])) == 10  # outside of any deadline


def test_errors_of_the_call_stay_what_they_are(numbers) -> None:
    with pytest.raises(ValueError, match="k must be"):
        Deadline(5).run(lambda: numbers.recommend([1], k=0))
