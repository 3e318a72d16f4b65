"""What `Recommender` refuses is refused over HTTP, naming the same field, for every profile."""

import json
import math

import pytest

from attnrec.runtime import Recommender

FILES = ["string", "int64", "int8", "int8-blocks", "markov-chain", "popularity", "users"]
# field that is named (None: both answer), and the arguments; ID stands for an id of the file
CASES = [
    (None, {}),
    (None, {"k": 1000}),
    (None, {"candidates": []}),
    (None, {"candidates": None, "exclude": []}),
    (None, {"exclude": None}),
    (None, {"exclude_seen": None}),
    (None, {"history": ["ID"] * 5000}),
    ("history", {"history": None}),
    ("history", {"history": 5}),
    ("history", {"history": {}}),
    ("history", {"history": "abc"}),
    ("history[0]", {"history": [True]}),
    ("history[0]", {"history": [1.5]}),
    ("history[0]", {"history": [None]}),
    ("history[1]", {"history": ["ID", []]}),
    ("history[0]", {"history": [{}]}),
    ("exclude", {"exclude": "sku-1"}),
    ("exclude[0]", {"exclude": [1.0]}),
    ("candidates", {"candidates": 5}),
    ("candidates[1]", {"candidates": ["ID", True]}),
    ("k", {"k": 0}),
    ("k", {"k": -1}),
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
    ("history", {"history": [2**70]}),
    ("history", {"history": ["112"]}),
    (None, {"history": [2**63 - 1, -(2**63)]}),
]
OF_STRINGS = [
    ("history[0]", {"history": [112]}),
    ("history[0]", {"history": [2**70]}),
    (None, {"history": ["", "\x00", "🛒"]}),
]


def cases_of(info) -> list:
    an_id = 112 if info.id_type == "int64" else "sku-1"

    def filled(value):
        return [an_id if x == "ID" else x for x in value] if isinstance(value, list) else value

    own = OF_NUMBERS if info.id_type == "int64" else OF_STRINGS
    return [
        (field, {"history": []} | {name: filled(value) for name, value in given.items()})
        for field, given in CASES + own
    ]


@pytest.fixture(scope="module")
def refusals(start, data) -> dict:
    """For every file: id type, and per case what Python and HTTP say."""
    found = {}
    for name in FILES:
        recommender = Recommender.load(data / f"tiny-{name}.onnx")
        server = start(f"tiny-{name}")
        rows = []
        for field, given in cases_of(recommender.info):
            try:
                said = recommender.recommend(**given).item_ids
            except ValueError as error:
                said = str(error)
            rows.append((field, given, said, server.ask(given)))
        found[name] = recommender.info.id_type, rows
        server.stop()
    return found


@pytest.mark.parametrize("name", FILES)
def test_python_and_http_refuse_and_answer_the_same(refusals, name) -> None:
    for field, given, said, reply in refusals[name][1]:
        shown = str(given)[:80]
        if field is None:
            assert reply.status == 200, (shown, reply.body)
            assert [item["id"] for item in reply.json["items"]] == said
            continue
        assert isinstance(said, str) and said.startswith(field.partition("[")[0]), (shown, said)
        assert reply.problem(422)["field"].startswith(field), (shown, reply.body)


@pytest.mark.parametrize("id_type", ["string", "int64"])
def test_files_of_one_id_type_refuse_in_the_same_words(refusals, id_type) -> None:
    texts = [
        [(said, reply.body) for field, _, said, reply in rows if field is not None]
        for kind, rows in refusals.values()
        if kind == id_type
    ]
    assert len(texts) > 2
    assert all(one == texts[0] for one in texts)


def test_what_json_cannot_say_is_refused_by_both(data, strings) -> None:
    recommender = Recommender.load(data / "tiny-string.onnx")
    for value in (math.nan, "\ud800"):
        with pytest.raises(ValueError, match=r"history\[0\]|not valid Unicode"):
            recommender.recommend([value])
        body = json.dumps({"history": [value]}).encode()
        strings.send("POST", "/v1/recommend", body).problem(400)


def test_http_alone_limits_how_many_items_are_returned(data, strings) -> None:
    recommender = Recommender.load(data / "tiny-string.onnx")
    for k in (1001, 10**9, 2**70):
        assert len(recommender.recommend([], k)) == 32
        assert strings.ask({"history": [], "k": k}).problem(422)["limit"] == 1000
