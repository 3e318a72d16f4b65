"""Whatever is posted, every route answers or refuses in bounded time, and never fails."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECONDS = 20  # in which an answer is there, on the slowest of machines
ALLOWED = {200, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 431, 503}
ROUTES = {
    "/v1/recommend": {"history": ["sku-1", "sku-2"], "k": 3, "exclude": ["sku-3"]},
    "/v1/score": {"history": ["sku-1"], "items": ["sku-2", "no such"]},
    "/v1/similar": {"item": "sku-1", "k": 3},
    "/v1/explain": {"history": ["sku-1", "sku-2"], "item": "sku-3"},
    "/v1/reload": {},
    "/v2/models/attnrec/infer": {
        "inputs": [{"name": "history", "datatype": "BYTES", "shape": [1, 1], "data": ["sku-1"]}]
    },
}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@st.composite
def mutated(draw: st.DrawFn, valid: dict) -> bytes:
    """A valid body in which a value, a name or some bytes are others."""
    body = dict(valid)
    for name in draw(st.lists(st.sampled_from(sorted(valid)), max_size=2)) if valid else ():
        body[name] = draw(anything)
    if draw(st.booleans()):
        body |= draw(st.dictionaries(st.text(max_size=8), anything, max_size=2))
    text = json.dumps(body).encode()
    if draw(st.booleans()):
        return text
    at, cut = draw(st.integers(0, len(text))), draw(st.integers(0, 3))
    return text[:at] + draw(st.binary(max_size=4)) + text[at + cut :]


@pytest.mark.parametrize("path", ROUTES)
def test_any_body_of_any_route_is_answered_or_refused(strings, path) -> None:
    valid = ROUTES[path]

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(body=st.binary(max_size=300) | mutated(valid))
    def check(body: bytes) -> None:
        # A connection for each: one that is kept may idle too long while hypothesis thinks.
        reply = strings.send("POST", path, body)
        assert reply.status in ALLOWED, (body, reply.status)
        assert path.startswith("/v2") or reply.status == 200 or reply.json["detail"]

    check()
    assert strings.send("GET", "/healthz").status == 200


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    head=st.binary(max_size=200)
    | st.tuples(
        st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT"]),
        st.sampled_from([b"/", b"/v1/recommend", b"/v1/items?q=", b"/v2/models/"]),
        st.binary(max_size=40),
        st.binary(max_size=60),
    ).map(lambda part: b"%s %s%s HTTP/1.1\r\nHost: x\r\n%s\r\n" % part)
)
def test_any_bytes_on_a_connection_are_answered_or_it_is_closed(strings, head) -> None:
    connection = strings.raw(head + b"\r\n\r\nGET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
    connection.settimeout(SECONDS)
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    connection.close()
    for answer in received.split(b"HTTP/1.1 ")[1:]:
        assert int(answer[:3]) in ALLOWED | {100}, (head, answer[:200])


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(query=st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace")) | st.binary())
def test_any_query_is_a_search_or_refused(strings, query) -> None:
    quoted = "".join(f"%{byte:02x}" for byte in query)
    for path in (f"/v1/items?q={quoted}", f"/v1/items?limit={quoted}", f"/v1/items?{quoted}"):
        assert strings.send("GET", path).status in (200, 422)
