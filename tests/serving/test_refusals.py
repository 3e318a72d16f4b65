"""A wrong request gets a problem document that names the mistake; whatever is sent, none fails."""

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnrec.runtime import Recommender
from attnrec.runtime.serving.errors import Refused
from attnrec.runtime.serving.schemas import MOST_ANSWERED, check_size

DEEP = b'{"history":' + b"[" * 30_000


# what is sent, the status, words of the detail, members of the document
REFUSED_BY_BOTH = [
    (b"", 400, ["JSON"], {}),
    (b"{", 400, ["JSON"], {}),
    (b"NaN", 400, ["JSON"], {}),
    (b'{"history": [NaN]}', 400, ["JSON"], {}),
    (b'{"history": ["a\x00b"]}', 400, ["JSON"], {}),
    (b'{"history": []} {}', 400, ["JSON"], {}),
    (b'\xef\xbb\xbf{"history": []}', 400, ["JSON"], {}),
    (b"\xff\xfe\x00", 400, ["JSON"], {}),
    ('{"history": ["é"]}'.encode("utf-16"), 400, ["JSON"], {}),
    (b'{"history": [], "x": "\xe9"}', 422, ["unknown field x"], {"field": "x"}),
    (b'"text"', 422, ["object"], {}),
    (b"null", 422, ["object"], {}),
    (b"{}", 422, ["missing", "history"], {"field": "history"}),
    (b'{"history": null}', 422, [], {"field": "history", "value": None}),
    (b'{"history": "a"}', 422, ["array"], {"field": "history", "value": "a"}),
    (b'{"history": [], "histry": []}', 422, ["histry"], {"field": "histry"}),
    (b'{"history": [], "n": 3}', 422, ["unknown field n"], {"field": "n", "value": 3}),
    (b'[{"history": []}, {"n": 3}]', 422, ["[1]", "n"], {"field": "[1].n", "value": 3}),
    (b'{"history": [], "timestamps": [1]}', 422, ["declare"], {"field": "timestamps"}),
    (b'{"history": [], "user": 3}', 422, [], {"field": "user", "value": 3}),
    (b'{"history": [true]}', 422, ["bool"], {"field": "history[0]", "value": True}),
    (b'{"history": [1.5]}', 422, ["float"], {"field": "history[0]", "value": 1.5}),
    (b'{"history": [null]}', 422, ["null"], {"field": "history[0]", "value": None}),
    (b'{"history": [1e999]}', 422, ["range"], {"field": "history[0]"}),
    (b'{"history": [[]]}', 422, ["array"], {"field": "history[0]"}),
    (b'{"history": [{"a": 1}]}', 422, ["object"], {"field": "history[0]"}),
    (DEEP, 422, ["array"], {"field": "history[0]"}),
    (b'{"x":' + b"[" * 30_000, 422, ["unknown field x"], {"field": "x"}),
    (b'{"history": [], "k": 0}', 422, ["k"], {"field": "k", "value": 0, "limit": 1}),
    (b'{"history": [], "k": 1001}', 422, ["k"], {"field": "k", "value": 1001, "limit": 1000}),
    (b'{"history": [], "k": -1e30}', 422, ["k"], {"field": "k", "value": -1e30}),
    (b'{"history": [], "k": "5"}', 422, ["k"], {"field": "k", "value": "5"}),
    (b'{"history": [], "k": true}', 422, ["k"], {"field": "k", "value": True}),
    (b'{"history": [], "k": ' + b"9" * 300 + b"}", 422, ["k"], {"field": "k", "limit": 1000}),
    (b'{"history": [], "exclude_seen": 1}', 422, [], {"field": "exclude_seen", "value": 1}),
    (b'{"history": [], "candidates": 5}', 422, [], {"field": "candidates", "value": 5}),
    (b'{"history": [], "exclude": [true]}', 422, [], {"field": "exclude[0]", "value": True}),
    (b'[{"history": []}, {"history": [], "k": 0}]', 422, [], {"field": "[1].k", "value": 0}),
    (b"[[]]", 422, ["object"], {"field": "[0]"}),
    (json.dumps([{"history": []}] * 257).encode(), 422, ["256"], {"limit": 256}),
]
REFUSED_OF_STRINGS = [
    (b'{"history": ["a", 5]}', 422, ["strings"], {"field": "history[1]", "value": 5}),
    (b'{"history": ["\\ud800"]}', 400, ["JSON"], {}),
    (b'{"history": ["\xe9"]}', 400, ["JSON"], {}),
]
REFUSED_OF_NUMBERS = [
    (b'{"history": ["5"]}', 422, ["int64"], {"field": "history[0]", "value": "5"}),
    (
        b'{"history": [9223372036854775808]}', 422, ["int64"],
        {"field": "history[0]", "value": 2**63, "limit": 2**63 - 1},
    ),
    (b'{"history": [-9223372036854775809]}', 422, ["int64"], {"limit": -(2**63)}),
    (b'{"history": [1], "exclude": [' + b"9" * 99 + b"]}", 422, [], {"field": "exclude[0]"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("which", "cases"),
    [
        ("strings", REFUSED_BY_BOTH + REFUSED_OF_STRINGS),
        ("numbers", REFUSED_BY_BOTH + REFUSED_OF_NUMBERS),
    ],
)
def test_wrong_bodies_are_refused_with_the_field_the_value_and_the_limit(
    which, cases, request
) -> None:
    client = request.getfixturevalue(which)
    for body, status, words, members in cases:
        reply = client.post(body)
        assert reply.status == status, (body[:60], reply.body)
        problem = reply.problem(status)
        assert len(reply.body) < 1000
        assert members.items() <= problem.items(), (body[:60], problem)
        for word in words:
            assert word in problem["detail"], (body[:60], problem)


# The field that is named (None: both answer), and the arguments; ID stands for an id of the file.
ARGUMENTS = [
    (None, {"k": 1000}),
    (None, {"candidates": []}),
    (None, {"candidates": None, "exclude": None, "exclude_seen": None}),
    (None, {"history": ["ID"] * 5000}),
    ("history", {"history": None}),
    ("history", {"history": {}}),
    ("history", {"history": "abc"}),
    ("history[0]", {"history": [True]}),
    ("history[0]", {"history": [1.5]}),
    ("history[0]", {"history": [None]}),
    ("history[1]", {"history": ["ID", []]}),
    ("exclude", {"exclude": "sku-1"}),
    ("exclude[0]", {"exclude": [1.0]}),
    ("candidates", {"candidates": 5}),
    ("candidates[1]", {"candidates": ["ID", True]}),
    ("k", {"k": 0}),
    ("k", {"k": True}),
    ("k", {"k": 1.5}),
    ("k", {"k": "5"}),
    ("k", {"k": None}),
    ("exclude_seen", {"exclude_seen": 1}),
    ("exclude_seen", {"exclude_seen": "false"}),
]
OF_NUMBERS = [
    ("history", {"history": [2**63]}),
    ("history", {"history": [-(2**63) - 1]}),
    ("history", {"history": ["112"]}),
    (None, {"history": [2**63 - 1, -(2**63), -1]}),
]
OF_STRINGS = [
    ("history[0]", {"history": [112]}),
    ("history[0]", {"history": [2**70]}),
    (None, {"history": ["", "\x00", "\uffff", "🛒", "x" * 60_000]}),
]


def arguments_for(info) -> list:
    an_id = 112 if info.id_type == "int64" else "sku-1"

    def filled(value):
        return [an_id if x == "ID" else x for x in value] if isinstance(value, list) else value

    own = OF_NUMBERS if info.id_type == "int64" else OF_STRINGS
    return [
        (field, {"history": []} | {name: filled(value) for name, value in given.items()})
        for field, given in ARGUMENTS + own
    ]


def test_python_and_http_refuse_the_same_for_every_profile_in_the_same_words(app, data) -> None:
    refusals: dict[str, list] = {}
    for name in ("string", "int64", "int8", "int8-blocks", "markov-chain", "popularity", "users"):
        recommender, client = Recommender.load(data / f"tiny-{name}.onnx"), app(f"tiny-{name}")
        found = []
        for field, row in arguments_for(recommender.info):
            reply = client.post(row)
            if field is None:
                ids = recommender.recommend(**row).item_ids
                assert [item["id"] for item in reply.json["items"]] == ids, (name, row)
                continue
            with pytest.raises(ValueError) as error:
                recommender.recommend(**row)
            assert str(error.value).startswith(field.partition("[")[0]), (name, row)
            assert reply.problem(422)["field"].startswith(field), (name, row)
            found.append((str(error.value), reply.body))
        assert refusals.setdefault(recommender.info.id_type, found) == found, name


def test_what_json_cannot_hold_is_refused_by_both(data, strings) -> None:
    recommender = Recommender.load(data / "tiny-string.onnx")
    for value in (math.nan, "\ud800"):
        with pytest.raises(ValueError, match=r"history\[0\]|not valid Unicode"):
            recommender.recommend([value])
        strings.post({"history": [value]}).problem(400)


def test_http_alone_limits_how_many_items_are_returned(data, strings) -> None:
    recommender = Recommender.load(data / "tiny-string.onnx")
    for k in (1001, 2**70):
        assert len(recommender.recommend([], k)) == 32
        assert strings.post({"history": [], "k": k}).problem(422)["limit"] == 1000


def test_rows_and_items_are_bounded_together() -> None:
    check_size(MOST_ANSWERED)
    with pytest.raises(Refused, match="fewer rows, or a smaller k") as refused:
        check_size(MOST_ANSWERED + 1)
    assert (refused.value.status_code, refused.value.members) == (422, {"limit": MOST_ANSWERED})


@pytest.mark.parametrize(
    ("side_inputs", "field"),
    [
        ({"user": "3"}, "user"),
        ({"user": 2**63}, "user"),
        ({"user_tags": "gold"}, "user_tags"),
        ({"user_tags": ["gold", 5]}, "user_tags[1]"),
        ({"user_tags": ["gold"] * 1001}, "user_tags"),
    ],
    ids=["type", "size", "list", "tag", "number"],
)
def test_what_is_no_user_and_no_tag_is_refused(app, side_inputs, field) -> None:
    problem = app("tiny-users").post({"history": [], **side_inputs}).problem(422)
    assert problem["field"] == field
    assert "item ids" not in problem["detail"]


NOW = 1_000_000_000


@pytest.mark.parametrize(
    ("side_inputs", "words"),
    [
        ({"request_time": NOW}, "request_time without timestamps"),
        ({"timestamps": [1, 2, 3]}, "timestamps without request_time"),
        ({"timestamps": [1, 2], "request_time": NOW}, "2 times for a history of 3 events"),
        ({"timestamps": [1, 2, 3.5], "request_time": NOW}, "timestamps"),
        ({"timestamps": [1, 2, 2**63], "request_time": NOW}, "timestamps"),
        ({"timestamps": "yesterday", "request_time": NOW}, "timestamps"),
        ({"timestamps": [1, 2, 3], "request_time": "now"}, "request_time"),
        ({"timestamps": [NOW * 1000] * 3, "request_time": NOW}, "looks like milliseconds; send"),
    ],
    ids=["no events", "no request", "length", "float", "size", "list", "text", "unit"],
)
def test_what_is_no_time_is_refused(app, side_inputs, words) -> None:
    client, row = app("tiny-times"), {"history": ["sku-1", "sku-2", "sku-3"], **side_inputs}
    for path, more in (
        ("/v1/recommend", {}),
        ("/v1/score", {"items": ["sku-4"]}),
        ("/v1/explain", {"item": "sku-4"}),
    ):
        problem = client.post(row | more, path).problem(422)
        assert words in problem["detail"] or problem["field"].startswith(words)
        assert problem["field"].startswith(("timestamps", "request_time"))
        assert "item ids" not in problem["detail"]


@pytest.mark.parametrize(
    "given", [{"user": "3"}, {"user_tags": ["gold"]}, {"timestamps": [], "request_time": 5}]
)
def test_a_side_input_that_the_file_does_not_declare_is_refused(strings, given) -> None:
    detail = strings.post({"history": [], **given}).problem(422)["detail"]
    assert f"does not declare the input '{next(iter(given))}'" in detail


@pytest.mark.parametrize(
    ("which", "unknown", "wrong"), [("strings", "no", 5), ("numbers", 9, "a")]
)
def test_an_item_that_is_missing_unknown_or_of_another_type_is_named(
    request, which, unknown, wrong
) -> None:
    client = request.getfixturevalue(which)
    for path, row in (("/v1/explain", {"history": []}), ("/v1/similar", {})):
        assert client.post(row, path).problem(422)["field"] == "item"
        problem = client.post(row | {"item": unknown}, path).problem(422)
        assert (problem["field"], problem["value"]) == ("item", unknown)
        assert repr(unknown) in problem["detail"] and "recommend returns" in problem["detail"]
        problem = client.post(row | {"item": wrong}, path).problem(422)
        assert (problem["field"], problem["value"]) == ("item", wrong)
        assert "item ids of this file are" in problem["detail"]


def test_similar_items_of_a_model_without_item_vectors_are_refused(app) -> None:
    client = app("tiny-popularity")
    (item,) = client.post({"history": [], "k": 1}).json["items"]
    detail = client.post({"item": item["id"]}, "/v1/similar").problem(422)["detail"]
    assert "empty history" in detail


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("limit=1_0", "limit"),
        ("limit=0000000010000000", "limit"), ("limit=000000001" + "0" * 5000, "limit"),
        ("q=" + "x" * 201, "q"),
    ],
    ids=range(7),
)  # fmt: skip
def test_a_wrong_search_is_refused(strings, query, field) -> None:
    assert strings.get(f"/v1/items?{query}").problem(422)["field"] == field


def test_only_json_is_taken(strings) -> None:
    for headers in (
        *({"Content-Type": kind} for kind in ("text/plain", "application/json-seq", "")), {},
    ):  # fmt: skip
        reply = strings.send("POST", "/v1/recommend", b"{}", headers)
        assert "Content-Type: application/json" in reply.problem(415)["detail"]
    for kind in ("application/json; charset=utf-8", "Application/JSON"):
        headers = {"Content-Type": kind}
        assert strings.send("POST", "/v1/recommend", b'{"history":[]}', headers).status == 200


def test_unknown_paths_and_methods_are_refused_with_what_there_is(strings) -> None:
    for path in ("/v1/recommend/", "/v1", "/docs", "/%00", "/..%2f", "//healthz", "/v1/model%20"):
        detail = strings.get(path).problem(404)["detail"]
        assert "/v1/recommend" in detail and "/openapi.json" in detail
    for method, path, allowed in (
        ("GET", "/v1/recommend", {"POST"}),
        ("OPTIONS", "/v1/recommend", {"POST"}),
        ("DELETE", "/healthz", {"GET", "HEAD"}),
        ("OPTIONS", "/v1/model", {"GET", "HEAD"}),
    ):
        reply = strings.send(method, path)
        assert set(reply.headers["allow"].split(", ")) == allowed
        assert reply.headers["allow"] in reply.problem(405)["detail"]


def test_a_body_of_exactly_the_limit_is_answered(strings) -> None:
    body = b'{"history":[]}'.ljust(65536)
    assert strings.post(body).status == 200
    problem = strings.post(body + b" ").problem(413)
    assert problem["limit"] == 65536 and "--max-body" in problem["detail"]


# The application, a path, and a body that is answered there.
VALID = [
    ("strings", "/v1/recommend", {"history": ["sku-1", "sku-2"], "k": 3, "exclude": ["sku-3"]}),
    ("numbers", "/v1/recommend", {"history": [112], "candidates": [113], "exclude_seen": True}),
    ("strings", "/v1/score", {"history": ["sku-1"], "items": ["sku-2", "no such"]}),
    ("strings", "/v1/similar", {"item": "sku-1", "k": 3}),
    ("strings", "/v1/explain", {"history": ["sku-1", "sku-2"], "item": "sku-3"}),
    ("strings", "/v1/reload", {}),
    (
        "strings",
        "/v2/models/attnrec/infer",
        {"inputs": [{"name": "history", "datatype": "BYTES", "shape": [1, 1], "data": ["sku-1"]}]},
    ),
]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@st.composite
def mutated(draw: st.DrawFn, valid: dict) -> bytes:
    """A valid body in which a value, a name or some bytes are others; perhaps a list of it."""
    body = dict(valid)
    for name in draw(st.lists(st.sampled_from(sorted(valid)), max_size=2)) if valid else ():
        body[name] = draw(anything)
    if draw(st.booleans()):
        body |= draw(st.dictionaries(st.text(max_size=8), anything, max_size=2))
    text = json.dumps([body, body] if draw(st.booleans()) else body).encode()
    if draw(st.booleans()):
        return text
    at, cut = draw(st.integers(0, len(text))), draw(st.integers(0, 3))
    return text[:at] + draw(st.binary(max_size=4)) + text[at + cut :]


@pytest.mark.parametrize(("which", "path", "valid"), VALID)
def test_any_body_is_answered_or_refused_and_never_an_error_of_the_server(
    request, which, path, valid
) -> None:
    client, statuses = request.getfixturevalue(which), set()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(body=st.binary(max_size=300) | mutated(valid))
    def check(body: bytes) -> None:
        reply = client.post(body, path)
        assert reply.status in (200, 400, 403, 422), (body, reply.status)
        assert path.startswith("/v2") or reply.status == 200 or reply.json["detail"]
        statuses.add(reply.status)

    check()
    assert {200, 400} <= statuses or statuses == {403}, statuses


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(query=st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace")) | st.binary())
def test_any_query_is_a_search_or_refused(strings, query) -> None:
    quoted = "".join(f"%{byte:02x}" for byte in query)
    for path in (f"/v1/items?q={quoted}", f"/v1/items?limit={quoted}", f"/v1/items?{quoted}"):
        assert strings.get(path).status in (200, 422)
