"""What is computed outside of onnxruntime ends at the deadline, too."""

import threading
import time

import pytest

from attnrec.runtime import Recommender
from attnrec.runtime.deadline import Deadline, DeadlineExceeded, check_deadline
from attnrec.runtime.serving.answers import ReadOnce
from attnrec.runtime.serving.search import LONGEST_QUERY, TitleIndex

LETTERS = " ".join("abcdefghijklmnopqrstuvwxyz0123456789" * 3)[:LONGEST_QUERY]


@pytest.fixture(scope="module")
def large() -> TitleIndex:
    """200,000 items, each with every letter in its title."""
    letters = LETTERS.replace(" ", "")[:36]
    return TitleIndex(range(200_000), [f"{letters} {n}" for n in range(200_000)])


def test_a_search_ends_at_its_deadline_and_the_next_one_is_answered(large) -> None:
    deadline = Deadline(0.02)
    with pytest.raises(DeadlineExceeded, match=r"0\.02 seconds"):
        deadline.run(lambda: [large.search(LETTERS, 10) for _ in range(1000)])
    assert len(Deadline(60).run(lambda: large.search(LETTERS, 10)).items) == 10


def test_words_that_say_nothing_new_cost_nothing(large) -> None:
    def seconds(query: str) -> float:
        begun = time.process_time()
        found = large.search(query, 10)
        assert len(found.items) == 10
        return time.process_time() - begun

    once = min(seconds("abc") for _ in range(3))
    assert min(seconds("abc " + "a b c ab bc " * 15) for _ in range(3)) < 5 * once


def test_a_search_finds_what_has_every_word(large) -> None:
    names = ["Red Bag", "bag", "Blue bag red", "red"]
    catalogue = TitleIndex([1, 2, 3, 4], names)
    for query, found in (("red bag", [1, 3]), ("re red", [4, 1, 3]), ("bag ba", [2, 1, 3])):
        assert sorted(item.id for item in catalogue.search(query, 9).items) == sorted(found)


def test_similar_items_and_explanations_end_at_the_deadline(data) -> None:
    recommender = Recommender.load(data / "tiny-string.onnx")
    item = recommender.recommend([], 1).item_ids[0]
    recommender.similar(item)
    for call in (
        lambda: recommender.similar(item),
        lambda: recommender.explain([item] * 1000, item),
    ):
        deadline = Deadline(0.02)
        with pytest.raises(DeadlineExceeded):
            deadline.run(lambda call=call: [call() for _ in range(100_000)])


def test_what_is_read_first_is_waited_for_until_the_deadline_and_then_found() -> None:
    ready, reads = threading.Event(), []

    def read() -> str:
        reads.append(1)
        ready.wait(60)
        return "content"

    content = ReadOnce(read)
    for _ in range(3):
        with pytest.raises(DeadlineExceeded, match=r"0\.05 seconds"):
            Deadline(0.05).run(content.get)
    ready.set()
    assert content.get() == Deadline(60).run(content.get) == "content"
    assert len(reads) == 1


def test_an_error_of_reading_is_told_and_reading_tried_again() -> None:
    outcomes = [OSError("first"), TimeoutError("second"), None]

    def read() -> int:
        if (error := outcomes.pop(0)) is not None:
            raise error
        return 5

    content = ReadOnce(read)
    for error in ("first", "second"):
        with pytest.raises(OSError, match=error):
            Deadline(60).run(content.get)
    assert content.get() == content.get() == 5


def test_a_thread_that_cannot_be_started_is_told_and_starting_tried_again() -> None:
    content, deadline = ReadOnce(lambda: "content"), Deadline(5)
    size = threading.stack_size(2**46)  # more than any system has
    try:
        for _ in range(2):  # the second one does not wait for the thread of the first
            with pytest.raises(RuntimeError, match="thread"):
                deadline.run(content.get)
    finally:
        threading.stack_size(size)
    assert deadline.run(content.get) == "content"


def test_without_a_deadline_nothing_ends() -> None:
    check_deadline()
    Deadline(60).run(check_deadline)
    check_deadline()


def test_refusals_name_the_options_that_help(start) -> None:
    server = start("tiny-int64", "--deadline", 0.02, "--max-body", 20_000_000)
    heavy = [{"history": [1] * 100_000, "k": 1}] * 40
    assert "--deadline" in server.send("POST", "/v1/recommend", heavy).problem(503)["detail"]
    server = start("tiny-int64")
    twelve_thousand = {"history": [], "candidates": list(range(10**6, 10**6 + 12_000))}
    assert "--max-body" in server.ask(twelve_thousand).problem(413)["detail"]
