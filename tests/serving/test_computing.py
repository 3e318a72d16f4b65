"""Computing is bounded in time and in number, and the others are answered meanwhile."""

import json
import threading
import time

import pytest
import typer
from typer.testing import CliRunner

from attnrec.cli.serve import serve
from attnrec.runtime import Recommender
from attnrec.runtime.deadline import Deadline, DeadlineExceeded, check_deadline
from attnrec.runtime.serving.answers import ReadOnce
from attnrec.runtime.serving.search import LONGEST_QUERY, TitleIndex

LETTERS = " ".join("abcdefghijklmnopqrstuvwxyz0123456789" * 3)[:LONGEST_QUERY]
HEAVY = [{"history": [1] * 100_000, "k": 1}] * 16  # about half a second


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


def test_repeated_parts_of_words_cost_a_search_nothing(large) -> None:
    def seconds(query: str) -> float:
        begun = time.process_time()
        assert len(large.search(query, 10).items) == 10
        return time.process_time() - begun

    once = min(seconds("abc") for _ in range(3))
    assert min(seconds("abc " + "a b c ab bc " * 15) for _ in range(3)) < 5 * once


def test_a_search_finds_what_has_every_word() -> None:
    titles = TitleIndex([1, 2, 3, 4], ["Red Bag", "bag", "Blue bag red", "red"])
    for query, found in (("red bag", [1, 3]), ("re red", [4, 1, 3]), ("bag ba", [2, 1, 3])):
        assert sorted(item.id for item in titles.search(query, 9).items) == sorted(found)


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


def test_without_a_deadline_nothing_ends() -> None:
    check_deadline()
    Deadline(60).run(check_deadline)
    check_deadline()


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


def test_an_error_of_reading_is_raised_and_reading_tried_again() -> None:
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


def test_a_thread_that_cannot_be_started_is_an_error_and_starting_tried_again() -> None:
    content, deadline = ReadOnce(lambda: "content"), Deadline(5)
    size = threading.stack_size(2**46)  # more than any system has
    try:
        for _ in range(2):  # the second one does not wait for the thread of the first
            with pytest.raises(RuntimeError, match="thread"):
                deadline.run(content.get)
    finally:
        threading.stack_size(size)
    assert deadline.run(content.get) == "content"


def test_a_request_over_its_deadline_gets_503_and_health_is_answered_meanwhile(start) -> None:
    server = start("tiny-int64", "--deadline", 0.05, "--max-body", 100_000_000)
    replies = []
    client = threading.Thread(target=lambda: replies.append(server.post(HEAVY * 3)))
    client.start()
    while client.is_alive():
        assert server.get("/healthz").status == 200
    client.join()
    assert "--deadline" in replies[0].problem(503)["detail"]
    assert int(replies[0].headers["retry-after"]) >= 1
    assert server.post({"history": []}).status == 200


def test_a_deadline_beyond_a_day_or_of_no_time_is_refused() -> None:
    app = typer.Typer()
    app.command()(serve)
    for seconds, limit in (("86401", "86400"), ("inf", "86400"), ("nan", "86400"), ("0", "0.01")):
        result = CliRunner().invoke(app, ["--deadline", seconds])
        assert result.exit_code == 2
        assert "--deadline" in result.output and limit in result.output


def test_a_full_queue_refuses_at_once_while_health_is_answered(start) -> None:
    server = start("tiny-int64", "--queue", 1, "--max-body", 100_000_000)
    replies, heavy = [], json.dumps(HEAVY).encode()
    clients = [
        threading.Thread(target=lambda: replies.append(server.post(heavy))) for _ in range(6)
    ]
    for client in clients:
        client.start()
    alive = 0
    while any(client.is_alive() for client in clients):
        alive += server.get("/healthz").status == 200
    assert alive > 2
    refused = [reply for reply in replies if reply.status != 200]
    assert 0 < len(refused) < len(replies) == 6
    for reply in refused:
        assert reply.problem(503)["limit"] == 1
        assert int(reply.headers["retry-after"]) >= 1
    assert server.post({"history": []}).status == 200


def test_a_client_that_leaves_while_it_waits_is_not_computed(start, tmp_path) -> None:
    log = tmp_path / "log"
    server = start("tiny-int64", "--max-body", 100_000_000, "--access-log", log)
    first = threading.Thread(target=server.post, args=(HEAVY * 2,))
    first.start()
    while server.metric("attnrec_requests_waiting") < 1:
        time.sleep(0.005)
    body = b'{"history":[]}'
    head = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    gone = [server.raw(head + b"Content-Length: 14\r\n\r\n" + body) for _ in range(5)]
    while first.is_alive() and server.metric("attnrec_requests_waiting") < 6:
        time.sleep(0.005)
    assert first.is_alive(), "the heavy request was over before the others waited"
    for connection in gone:
        connection.close()
    first.join()
    deadline = time.monotonic() + 30
    while server.metric("attnrec_requests_waiting") and time.monotonic() < deadline:
        time.sleep(0.01)
    statuses = [json.loads(line)["status"] for line in log.read_text().splitlines()]
    assert statuses.count(499) == 5
    assert server.metric("attnrec_requests_total", route="/v1/recommend", status="499") == 5
    assert server.stop() == (0, "")
