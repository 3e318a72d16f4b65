"""Another file, another list of unavailable items: taken if sound, else the old one stays."""

import http.client
import itertools
import json
import threading
from pathlib import Path

import pytest

from attnrec.runtime import Recommender
from attnrec.runtime.model_file import format as names
from attnrec.runtime.serving.reloading import ModelSource

TOKEN = "0123456789abcdef-reload"
BEARER = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
ROW = {"history": ["sku-1"], "k": 40}


@pytest.fixture
def path(tmp_path, put, data) -> Path:
    """A file that is served, tiny-string, and may be replaced."""
    put((data / "tiny-string.onnx").read_bytes(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(
    "kind",
    ["altered", "truncated", "empty", "missing", "self-test", "vector raises", "no vectors"],
)
def test_a_file_that_cannot_be_used_leaves_the_old_one(
    app, put, path, failing_its_self_test, resealed, kind, caplog
) -> None:
    good = path.read_bytes()
    altered = bytearray(good)
    altered[-5000] ^= 0x10
    bad = {
        "altered": lambda: bytes(altered),
        "truncated": lambda: good[:-1],
        "empty": lambda: b"",
        "self-test": lambda: failing_its_self_test,
        # int64 cannot hold it: numpy raises an OverflowError on the way into onnxruntime.
        "vector raises": lambda: resealed(lambda vectors: vectors[0].update(k=-(2**70))),
        "no vectors": lambda: resealed(lambda vectors: vectors.insert(0, 5)),
    }
    client = app(path)
    before = client.post(ROW).json
    if kind == "missing":
        path.unlink()
    else:
        put(bad[kind](), path)
    for n in (1, 2):
        assert client.reload() == (0, n)
    assert client.post(ROW).json == before
    ready = client.get("/readyz")
    assert (ready.status, ready.json["model_version"]) == (200, before["model_version"])
    assert ("golden vector" in ready.json["reload_failed"]) == ("vector" in kind or "test" in kind)
    put(good, path)
    assert client.reload() == (1, 2)
    assert client.get("/readyz").json.keys() == {"status", "model_version"}
    assert caplog.text.count(f"still serving {before['model_version']}") == 2
    assert "Traceback" not in caplog.text


def test_a_server_starts_with_a_file_that_fails_its_self_test_and_is_never_ready(
    start, path, resealed, failing_its_self_test
) -> None:
    for content in (
        failing_its_self_test,
        resealed(lambda vectors: vectors[0].update(k=-(2**70))),
    ):
        path.write_bytes(content)
        server = start(path)
        assert server.get("/healthz").status == 200
        for _ in range(2):
            assert "golden vector" in server.get("/readyz").problem(503)["detail"]
        assert "golden vector" in server.post({"history": []}).problem(503)["detail"]
        code, errors = server.stop()
        assert code == 0 and "golden vector" in errors


def test_what_is_read_from_the_file_later_is_refused_once_that_is_another_one(
    app, put, data, path
) -> None:
    good = path.read_bytes()
    client = app(path)
    item = client.post(ROW).json["items"][0]["id"]

    def later() -> list:
        return [client.post({"item": item}, "/v1/similar"), client.get("/v1/items?q=title")]

    for other in ((data / "tiny-int8.onnx").read_bytes(), good[:-1], b""):
        put(other, path)
        for reply in later():
            assert "reload" in reply.problem(503)["detail"]
        assert client.post(ROW).status == 200
    put(good, path)
    assert [reply.status for reply in later()] == [200, 200]
    put(b"", path)  # by now both were read
    assert [reply.status for reply in later()] == [200, 200]


def test_reloading_over_http_needs_the_token(app, strings, put, version_of, data, path) -> None:
    assert "--token-file" in strings.post(b"", "/v1/reload").problem(403)["detail"]
    client = app(path, token=TOKEN)
    client.headers = BEARER
    first = version_of(path)
    put((data / "tiny-markov-chain.onnx").read_bytes(), path)
    for headers in ({}, {"Authorization": "Bearer " + "x" * 20}):
        client.send("POST", "/v1/reload", b"", headers).problem(401)
    assert client.get("/v1/model").json["sha256"].startswith(first)
    reply = client.post(b"", "/v1/reload")
    assert reply.json == {"model_version": version_of(path), "previous_version": first}
    put(b"", path)
    assert "still serving" in client.post(b"", "/v1/reload").problem(409)["detail"]
    client.get("/v1/reload").problem(405)
    assert client.reloads() == (1, 1)


@pytest.mark.parametrize(
    ("name", "unknown"), [("tiny-string", "no such item"), ("tiny-int64", "-77")]
)
def test_unavailable_items_are_read_again(app, data, tmp_path, name, unknown, caplog) -> None:
    recommender = Recommender.load(data / f"{name}.onnx")
    ids = recommender.recommend([], 3, exclude_seen=False).item_ids
    # No line of a list can name an item with a line break.
    first, second = [item for item in ids if "\n" not in str(item)][:2]
    gone = tmp_path / "gone.txt"
    gone.write_text(f"{first}\r\n\n{unknown}\n", "utf-8", newline="")
    client = app(name, gone)

    def found() -> list:
        return [item["id"] for item in client.post({"history": [], "k": 40}).json["items"]]

    assert first not in found() and second in found()
    assert client.metric("attnrec_unavailable_items") == 1
    assert client.metric("attnrec_unavailable_ids_unknown") == 1
    assert caplog.text.count("knows 1 of 2 unavailable ids") == 1
    gone.write_text(f"{second}\n", "utf-8")
    assert client.reload() == (1, 0)
    assert client.metric("attnrec_unavailable_ids_unknown") == 0
    bad = {"tiny-int64": b"112\nabc\n"}
    gone.write_bytes(bad.get(name, b"\xff\xfe"))
    assert client.reload() == (1, 1)
    failure = client.get("/readyz").json["reload_failed"]
    assert "gone.txt" in failure and ("whole numbers" in failure) == (name in bad)
    gone.unlink()
    assert client.reload() == (1, 2)
    assert first in found() and second not in found()


def test_an_unavailable_id_that_no_item_can_have_is_passed_over(app, tmp_path) -> None:
    gone = tmp_path / "gone.txt"
    gone.write_text(f"{2**62}\n")
    assert app("tiny-int64", gone).post({"history": []}).status == 200


def test_a_list_is_read_as_people_and_spreadsheets_save_it(data, tmp_path) -> None:
    gone = tmp_path / "gone.txt"
    gone.write_bytes(b'\xef\xbb\xbfsku-1\r\nsku-2 \r\n\t"sku-3"\r\n \r\nsku-3\r\n"no "" item"\r\n')
    served, n_ids = ModelSource(data / "tiny-string.onnx", gone).load()
    assert set(served.recommender.unavailable) == {"sku-1", "sku-2", "sku-3"} and n_ids == 4


@pytest.mark.parametrize(
    ("line", "item"),
    [
        (" padded ", " padded "),
        ('" padded "', " padded "),
        ('say "hi"', 'say "hi"'),
        ('"say ""hi"""\t', 'say "hi"'),
        (' "sku-1 "', "sku-1"),
    ],
)
def test_blanks_and_quotes_belong_to_an_id_that_has_them(data, tmp_path, line, item) -> None:
    gone = tmp_path / "gone.txt"
    gone.write_text(line, "utf-8")
    served, n_ids = ModelSource(data / "tiny-string.onnx", gone).load()
    assert served.recommender.unavailable == (item,) and n_ids == 1


@pytest.mark.parametrize("line", ["abc", "1_0", "12.0", "9223372036854775808", "1 2", "ab\u0661"])
def test_a_line_that_is_no_whole_number_is_named(data, tmp_path, line) -> None:
    gone = tmp_path / "gone.txt"
    gone.write_text(f'\ufeff112\r\n\n "113" \n{line}\n', "utf-8")
    with pytest.raises(ValueError) as error:
        ModelSource(data / "tiny-int64.onnx", gone).load()
    assert f"gone.txt, line 4: {line!r} is no id" in str(error.value)
    assert "whole numbers (int64): correct the line" in str(error.value)


def with_other_ids(content: bytes, old: bytes, new: bytes) -> bytes:
    """A file with another catalogue: ids that begin with `old` begin with `new`, of its length."""
    seal = names.metadata_entry(names.SEAL_KEY, "0" * names.SEAL_LENGTH)
    start = content.index(b"catalogue_sha256") + 20
    digest = content[start : start + 8]
    changed = content[: -len(seal)].replace(old, new).replace(digest, b"00000000")
    return names.seal(changed)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("tiny-string", "tiny-int64", ("item ids were strings, now whole numbers",)),
        ("tiny-times", "tiny-string", ("timestamps, request_time",)),
        ("tiny-users", "tiny-string", ("user, user_tags", "user ids")),
        ("tiny-string", "fewer ids", ("20 of the 32", "80%")),
    ],
)
def test_a_file_on_which_requests_of_now_would_fail_is_refused_unless_allowed(
    app, put, data, path, first, second, words, caplog
) -> None:
    old = (data / f"{first}.onnx").read_bytes()
    new = with_other_ids(old, b"sku-", b"new-")
    if second != "fewer ids":
        new = (data / f"{second}.onnx").read_bytes()
    put(old, path)
    client, allowing = app(path), app(path, allow_change=True)
    before = client.post({"history": [], "k": 40}).json
    put(new, path)
    assert client.reload() == (0, 1)
    assert client.post({"history": [], "k": 40}).json == before
    failure = client.get("/readyz").json["reload_failed"]
    assert all(word in failure for word in (*words, "--allow-change", "Restart")), failure
    assert failure in caplog.text
    caplog.clear()
    assert allowing.reload() == (1, 0)
    assert all(word in caplog.text for word in words)


def test_a_file_with_ids_of_another_type_takes_over_whole(app, put, data, path) -> None:
    client = app(path, allow_change=True)
    assert client.post({"history": ["sku-1"]}).status == 200
    put((data / "tiny-int64.onnx").read_bytes(), path)
    assert client.reload() == (1, 0)
    assert client.post({"history": [112]}).status == 200
    assert client.post({"history": ["sku-1"]}).problem(422)["field"] == "history[0]"
    document = client.get("/openapi.json").json
    item = document["components"]["schemas"]["SimilarRequest"]["properties"]["item"]
    assert item["type"] == "integer"
    assert {"id": 112} in client.get("/v1/items?q=112").json["items"]


def test_a_file_that_keeps_most_ids_and_takes_more_inputs_is_taken(app, put, data, path) -> None:
    string = path.read_bytes()
    client = app(path)
    put(with_other_ids(string, b"sku-1", b"new-1"), path)  # 29 of 32 are left
    assert client.reload() == (1, 0)
    put((data / "tiny-users.onnx").read_bytes(), path)
    assert client.reload() == (2, 0)


ROWS = [
    {"history": history, "k": k}
    for history, k in itertools.product(([], ["sku-1"], ["sku-5", "sku-9", "no such"]), (1, 7, 40))
]


class Loop(threading.Thread):
    """Sends requests without pause over one connection, which must never be closed."""

    def __init__(self, server) -> None:
        super().__init__(daemon=True)
        self.connection: http.client.HTTPConnection = server.client()
        self.answers: list[tuple[int, int, dict]] = []
        self.error: Exception | None = None
        self.over = False

    def run(self) -> None:
        try:
            self.connection.connect()
            self.connection.auto_open = 0  # a dropped connection is an error, not a new one
            for n in itertools.cycle(range(len(ROWS))):
                if self.over:
                    return
                headers = {"Content-Type": "application/json"}
                body = json.dumps(ROWS[n])
                self.connection.request("POST", "/v1/recommend", body, headers)
                response = self.connection.getresponse()
                self.answers.append((n, response.status, json.loads(response.read())))
        except Exception as error:
            self.error = error
        finally:
            self.connection.close()


def assert_answers_are_of_the_file_they_name(loops, files: list[Path]) -> set[str]:
    """Compare with what the runtime answers from the same files; returns the versions seen."""
    expected = {}
    for file in files:
        recommender = Recommender.load(file)
        found = [recommender.recommend(**row) for row in ROWS]
        expected[recommender.info.sha256[:12]] = [(one.item_ids, one.scores) for one in found]
    seen = set()
    for loop in loops:
        assert loop.error is None, repr(loop.error)
        for n, status, answer in loop.answers:
            assert status == 200, answer
            item_ids, scores = expected[answer["model_version"]][n]
            assert [item["id"] for item in answer["items"]] == item_ids
            assert [item["score"] for item in answer["items"]] == pytest.approx(scores, abs=1e-5)
            seen.add(answer["model_version"])
    return seen


def test_fifty_swaps_under_load_of_which_ten_are_corrupt_lose_nothing(
    start, put, version_of, data, path, failing_its_self_test
) -> None:
    files = [data / "tiny-string.onnx", data / "tiny-markov-chain.onnx"]
    good = [file.read_bytes() for file in files]
    corrupt = itertools.cycle([good[1][:-100], b"", failing_its_self_test])
    server = start(path)
    loops = [Loop(server) for _ in range(3)]
    for loop in loops:
        loop.start()
    expected, serving = (0.0, 0.0), 0
    for swap in range(50):
        if swap % 5 == 4:
            put(next(corrupt), path)
            expected = expected[0], expected[1] + 1
        else:
            serving = 1 - serving
            put(good[serving], path)
            expected = expected[0] + 1, expected[1]
        assert server.reload() == expected
        ready = server.get("/readyz")
        assert ready.status == 200
        assert ready.json["model_version"] == version_of(files[serving])
        assert ("reload_failed" in ready.json) == (swap % 5 == 4)
    for loop in loops:
        loop.over = True
        loop.join(60)
    assert expected == (40, 10)
    assert len(assert_answers_are_of_the_file_they_name(loops, files)) == 2
    code, errors = server.stop()
    assert (code, "Traceback" in errors) == (0, False)
    assert errors.count("not reloaded") == 10
