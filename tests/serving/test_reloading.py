"""Another file, another list of unavailable items: taken if sound, else the old one stays."""

import pytest

from attnrec.runtime import Recommender
from attnrec.runtime.model_file import format as names
from attnrec.runtime.serving.reloading import ModelSource

TOKEN = "0123456789abcdef-reload"
BEARER = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
QUESTION = {"history": ["sku-1"], "k": 40}


@pytest.mark.parametrize("kind", ["altered", "truncated", "empty", "no self-test", "missing"])
def test_a_file_that_cannot_be_used_leaves_the_old_one(
    start, put, data, tmp_path, failing_its_self_test, kind
) -> None:
    path = tmp_path / "model.onnx"
    good = (data / "tiny-string.onnx").read_bytes()
    put(good, path)
    server = start(path)
    before = server.ask(QUESTION).json
    altered = bytearray(good)
    altered[-5000] ^= 0x10
    if kind == "missing":
        path.unlink()
    else:
        bad = {"altered": bytes(altered), "truncated": good[:-1], "empty": b""}
        put(bad.get(kind, failing_its_self_test), path)
    assert server.reload() == (0, 1)
    assert server.ask(QUESTION).json == before
    ready = server.send("GET", "/readyz")
    assert (ready.status, ready.json["model_version"]) == (200, before["model_version"])
    assert ready.json["reload_failed"]
    put(good, path)
    assert server.reload() == (1, 1)
    assert "reload_failed" not in server.send("GET", "/readyz").json
    code, errors = server.stop()
    assert code == 0
    assert f"still serving {before['model_version']}" in errors


def test_what_is_read_from_the_file_later_is_refused_once_that_is_another_one(
    start, put, data, tmp_path
) -> None:
    path = tmp_path / "model.onnx"
    good = (data / "tiny-string.onnx").read_bytes()
    put(good, path)
    server = start(path)
    item = server.ask(QUESTION).json["items"][0]["id"]
    for other in ((data / "tiny-int8.onnx").read_bytes(), good[:-1], b""):
        put(other, path)
        for reply in (
            server.send("POST", "/v1/similar", {"item": item}),
            server.send("GET", "/v1/items?q=title"),
        ):
            assert "reload" in reply.problem(503)["detail"]
        assert server.ask(QUESTION).status == 200
    put(good, path)
    assert server.send("POST", "/v1/similar", {"item": item}).status == 200
    assert server.send("GET", "/v1/items?q=title").status == 200
    put(b"", path)  # by now both were read
    assert server.send("POST", "/v1/similar", {"item": item}).status == 200
    assert server.send("GET", "/v1/items?q=title").status == 200


def test_reloading_over_http_needs_the_token(start, put, version_of, data, tmp_path) -> None:
    path, token = tmp_path / "model.onnx", tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    put((data / "tiny-string.onnx").read_bytes(), path)
    server = start(path, "--token-file", token)
    first = version_of(path)
    put((data / "tiny-markov-chain.onnx").read_bytes(), path)
    wrong = {"Authorization": "Bearer " + "x" * 20}
    for headers in ({}, wrong):
        server.send("POST", "/v1/reload", b"", headers).problem(401)
    assert server.send("GET", "/v1/model", None, BEARER).json["sha256"].startswith(first)
    reply = server.send("POST", "/v1/reload", b"", BEARER)
    assert reply.json == {"model_version": version_of(path), "previous_version": first}
    put(b"", path)
    problem = server.send("POST", "/v1/reload", b"", BEARER).problem(409)
    assert "still serving" in problem["detail"]
    server.send("GET", "/v1/reload", None, BEARER).problem(405)


def test_without_a_token_nobody_reloads_over_http(strings) -> None:
    reply = strings.send("POST", "/v1/reload", b"")
    assert "--token-file" in reply.problem(403)["detail"]
    assert strings.metric("attnrec_reloads_total", result="success") == 0


@pytest.mark.parametrize(
    ("name", "unknown"), [("tiny-string", "no such item"), ("tiny-int64", "-77")]
)
def test_unavailable_items_are_read_again(start, data, tmp_path, name, unknown) -> None:
    recommender = Recommender.load(data / f"{name}.onnx")
    first, second = recommender.recommend([], 2, exclude_seen=False).item_ids
    if "\n" in str(first):  # no line of a list can name such an item
        first = recommender.recommend([], 3, exclude_seen=False).item_ids[2]
    gone = tmp_path / "gone.txt"
    gone.write_text(f"{first}\r\n\n{unknown}\n", "utf-8", newline="")
    server = start(name, "--unavailable", gone)

    def found() -> list:
        return [item["id"] for item in server.ask({"history": [], "k": 40}).json["items"]]

    assert first not in found() and second in found()
    gone.write_text(f"{second}\n", "utf-8")
    assert server.reload() == (1, 0)
    assert first in found() and second not in found()
    gone.write_bytes(b"\xff\xfe")
    assert server.reload() == (1, 1)
    assert "gone.txt" in server.send("GET", "/readyz").json["reload_failed"]
    assert first in found() and second not in found()
    gone.unlink()
    assert server.reload() == (1, 2)
    assert second not in found()


def test_a_list_that_does_not_fit_the_file_keeps_the_old_list(start, tmp_path) -> None:
    gone = tmp_path / "gone.txt"
    gone.write_text("112\n")
    server = start("tiny-int64", "--unavailable", gone)
    gone.write_text("112\nabc\n")
    assert server.reload() == (0, 1)
    assert "whole numbers" in server.send("GET", "/readyz").json["reload_failed"]
    gone.write_text(f"{2**70}\n")  # no item of this file has such an id
    server.reload()
    assert server.ask({"history": []}).status == 200
    assert server.send("GET", "/readyz").status == 200


def test_a_list_is_read_as_people_and_spreadsheets_save_it(start, data, tmp_path) -> None:
    gone = tmp_path / "gone.txt"
    gone.write_bytes(b'\xef\xbb\xbfsku-1\r\nsku-2 \r\n\t"sku-3"\r\n \r\nsku-3\r\n"no "" item"\r\n')
    server = start("tiny-string", "--unavailable", gone)
    found = [item["id"] for item in server.ask({"history": [], "k": 40}).json["items"]]
    assert not {"sku-1", "sku-2", "sku-3"}.intersection(found) and "sku-4" in found
    assert server.metric("attnrec_unavailable_items") == 3
    assert server.metric("attnrec_unavailable_ids_unknown") == 1
    gone.write_bytes(b"\xef\xbb\xbfsku-1")
    assert server.reload() == (1, 0)
    assert server.metric("attnrec_unavailable_items") == 1
    assert server.metric("attnrec_unavailable_ids_unknown") == 0


def test_an_id_that_the_file_does_not_know_is_named_on_a_reload(start, tmp_path) -> None:
    gone = tmp_path / "gone.txt"
    gone.write_text("sku-1\n")
    server = start("tiny-string", "--unavailable", gone)
    gone.write_text("sku-1\nsku 2\n")
    assert server.reload() == (1, 0)
    code, errors = server.stop()
    assert code == 0 and errors.count("knows 1 of 2 unavailable ids; not 'sku 2'") == 1


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
    gone.write_text('\ufeff112\r\n\n "113" \n', "utf-8")
    served, n_ids = ModelSource(data / "tiny-int64.onnx", gone).load()
    assert n_ids == 2 and set(served.recommender.unavailable) <= {112, 113}


def test_a_file_with_ids_of_another_type_takes_over_whole_where_that_is_allowed(
    start, put, data, tmp_path
) -> None:
    path = tmp_path / "model.onnx"
    put((data / "tiny-string.onnx").read_bytes(), path)
    server = start(path, "--allow-change")
    assert server.ask({"history": ["sku-1"]}).status == 200
    put((data / "tiny-int64.onnx").read_bytes(), path)
    assert server.reload() == (1, 0)
    assert server.ask({"history": [112]}).status == 200
    assert server.ask({"history": ["sku-1"]}).problem(422)["field"] == "history[0]"
    document = server.send("GET", "/openapi.json").json
    question = document["components"]["schemas"]["SimilarRequest"]["properties"]["item"]
    assert question["type"] == "integer"
    found = server.send("GET", "/v1/items?q=112").json["items"]
    assert {"id": 112} in found
    code, errors = server.stop()
    assert code == 0
    assert "item ids were strings, now whole numbers" in errors


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
        ("tiny-string", "tiny-int64", ("strings", "whole numbers")),
        ("tiny-times", "tiny-string", ("timestamps, request_time",)),
        ("tiny-users", "tiny-string", ("user, user_tags", "user ids")),
        ("tiny-string", "fewer ids", ("20 of the 32", "80%")),
    ],
)
def test_a_file_on_which_requests_of_now_would_fail_is_refused(
    start, put, data, tmp_path, first, second, words
) -> None:
    path = tmp_path / "model.onnx"
    old = (data / f"{first}.onnx").read_bytes()
    new = with_other_ids(old, b"sku-", b"new-")
    if second != "fewer ids":
        new = (data / f"{second}.onnx").read_bytes()
    put(old, path)
    server = start(path)
    before = server.ask({"history": [], "k": 40}).json
    put(new, path)
    assert server.reload() == (0, 1)
    assert server.ask({"history": [], "k": 40}).json == before
    failure = server.send("GET", "/readyz").json["reload_failed"]
    assert all(word in failure for word in (*words, "--allow-change", "Restart")), failure
    put(old, path)
    assert server.reload() == (1, 1)
    code, errors = server.stop()
    assert (code, failure in errors) == (0, True)
    allowing = start(path, "--allow-change")
    put(new, path)
    assert allowing.reload() == (1, 0)
    assert all(word in allowing.stop()[1] for word in words)


def test_a_file_that_keeps_most_ids_and_takes_more_inputs_is_taken(
    start, put, data, tmp_path
) -> None:
    path = tmp_path / "model.onnx"
    string = (data / "tiny-string.onnx").read_bytes()
    put(string, path)
    server = start(path)
    put(with_other_ids(string, b"sku-1", b"new-1"), path)  # 29 of 32 are left
    assert server.reload() == (1, 0)
    put((data / "tiny-users.onnx").read_bytes(), path)
    assert server.reload() == (2, 0)


@pytest.mark.parametrize("golden", ["raises", "is no JSON of vectors"])
def test_whatever_a_golden_vector_does_the_next_reload_works(
    start, put, data, tmp_path, resealed, golden
) -> None:
    path = tmp_path / "model.onnx"
    good = (data / "tiny-string.onnx").read_bytes()
    put(good, path)
    server = start(path)
    # int64 cannot hold it: numpy raises an OverflowError on the way into onnxruntime.
    bad = {"raises": lambda vectors: vectors[0].update(k=-(2**70))}
    put(resealed(bad.get(golden, lambda vectors: vectors.insert(0, 5))), path)
    assert server.reload() == (0, 1)
    assert "golden vectors" in server.send("GET", "/readyz").json["reload_failed"]
    assert server.reload() == (0, 2)
    put(good, path)
    assert server.reload() == (1, 2)
    assert server.send("GET", "/readyz").json.keys() == {"status", "model_version"}
    code, errors = server.stop()
    assert (code, errors.count("not reloaded"), "Traceback" in errors) == (0, 2, False)


def test_a_server_starts_with_such_a_file_and_is_not_ready(start, tmp_path, resealed) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(resealed(lambda vectors: vectors[0].update(k=-(2**70))))
    server = start(path)
    assert "golden vectors" in server.send("GET", "/readyz").problem(503)["detail"]
    server.ask({"history": []}).problem(503)
