"""A wrong request gets a problem document that names the mistake; the server lives on."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    server = request.getfixturevalue(which)
    for body, status, words, members in cases:
        reply = server.send("POST", "/v1/recommend", body)
        assert reply.status == status, (body[:60], reply.body)
        problem = reply.problem(status)
        assert len(reply.body) < 1000
        assert members.items() <= problem.items(), (body[:60], problem)
        for word in words:
            assert word in problem["detail"], (body[:60], problem)
    assert server.ask({"history": []}).status == 200


def test_a_missing_or_unknown_item_is_named_as_the_field(strings) -> None:
    for path, question in (("/v1/explain", {"history": []}), ("/v1/similar", {})):
        assert strings.send("POST", path, question).problem(422)["field"] == "item"
        problem = strings.send("POST", path, question | {"item": "gone"}).problem(422)
        assert (problem["field"], problem["value"]) == ("item", "gone")


def test_ids_at_the_edges_of_their_type_are_answered(strings, numbers) -> None:
    for history in ([-(2**63)], [2**63 - 1], [-1], list(range(1000))):
        assert numbers.ask({"history": history}).status == 200
    for history in (["sku-1\x00"], [""], ["\uffff"], ["x" * 60_000], ["🛒"]):
        assert strings.ask({"history": history}).status == 200


def test_only_json_is_taken(strings) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json-seq", ""):
        reply = strings.send("POST", "/v1/recommend", b"{}", {"Content-Type": kind})
        assert "Content-Type: application/json" in reply.problem(415)["detail"]
    strings.send("POST", "/v1/recommend", b"{}", {}).problem(415)
    for kind in ("application/json; charset=utf-8", "Application/JSON"):
        headers = {"Content-Type": kind}
        assert strings.send("POST", "/v1/recommend", b'{"history":[]}', headers).status == 200


def test_unknown_paths_and_methods_are_refused_with_what_there_is(strings) -> None:
    for path in ("/v1/recommend/", "/v1", "/%00", "/..%2f", "//healthz", "/v1/recommend%20"):
        assert "/v1/recommend" in strings.send("GET", path).problem(404)["detail"]
    reply = strings.send("GET", "/v1/recommend")
    assert reply.problem(405)["detail"] == "this path takes POST; ask it so"
    assert reply.headers["allow"] == "POST"
    for path in ("/healthz", "/readyz", "/v1/model"):
        reply = strings.send("DELETE", path)
        assert reply.headers["allow"] in reply.problem(405)["detail"]
        assert set(reply.headers["allow"].split(", ")) == {"GET", "HEAD"}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
nearly = st.fixed_dictionaries(
    {"history": st.lists(st.text() | st.integers() | anything, max_size=5)},
    optional={
        "k": st.integers() | anything,
        "exclude": st.lists(st.text() | anything, max_size=3) | anything,
        "candidates": st.lists(st.text() | anything, max_size=3) | anything,
        "exclude_seen": st.none() | st.booleans() | anything,
        "rows": anything,
    },
)
bodies = st.one_of(
    st.binary(max_size=300),
    anything.map(lambda value: json.dumps(value).encode()),
    (nearly | st.lists(nearly, max_size=4)).map(lambda value: json.dumps(value).encode()),
    nearly.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")),
    st.tuples(nearly.map(lambda value: json.dumps(value).encode()), st.integers(0, 400)).map(
        lambda pair: pair[0][: pair[1]] + b"\xff" + pair[0][pair[1] :]
    ),
)


@pytest.mark.parametrize("which", ["strings", "numbers"])
def test_any_body_is_answered_or_refused_and_never_an_error_of_the_server(which, request) -> None:
    server = request.getfixturevalue(which)
    statuses = set()

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(body=bodies)
    def check(body: bytes) -> None:
        # Of its own connection: hypothesis may think for longer than an idle one is kept.
        reply = server.send("POST", "/v1/recommend", body)
        assert reply.status in (200, 400, 422), (body, reply.status)
        assert reply.status == 200 or reply.json["status"] == reply.status
        statuses.add(reply.status)

    check()
    assert statuses == {200, 400, 422}
    assert server.ask({"history": []}).status == 200


@pytest.mark.parametrize("limit", ["0000000010000000", "000000001" + "0" * 5000])
def test_a_limit_of_the_search_is_read_whole(strings, limit) -> None:
    assert strings.send("GET", f"/v1/items?limit={limit}").status == 422
