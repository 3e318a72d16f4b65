"""What the server says is what `Recommender` says."""

import json
import socket
import subprocess
import sys
from typing import Any

import pytest

from attnrec.runtime import Recommendations, Recommender
from attnrec.runtime.serving.server import listen

FILES = ("tiny-string", "tiny-int64")


@pytest.fixture(scope="module", params=FILES)
def pair(request, start, data) -> tuple[Any, Recommender, list[dict[str, Any]]]:
    """A server, the same file in this process, and questions in the words of both."""
    recommender = Recommender.load(data / f"{request.param}.onnx")
    expected = json.loads((data / f"{request.param}.expected.json").read_text("utf-8"))
    return start(request.param), recommender, [call["recommend"] for call in expected["calls"]]


def as_json(found: Recommendations, recommender: Recommender) -> dict[str, Any]:
    titles = found.titles or [None] * len(found)
    items = [
        {"id": item_id, "score": score} | ({} if title is None else {"title": title})
        for item_id, score, title in zip(found.item_ids, found.scores, titles, strict=True)
    ]
    version = (recommender.info.sha256 or "")[:12]
    return {"items": items, "n_known": found.n_known, "model_version": version}


def test_one_question_is_answered_like_recommend(pair) -> None:
    server, recommender, questions = pair
    assert len(questions) >= 30
    for question in questions:
        reply = server.ask(question)
        assert reply.status == 200, reply.body
        assert reply.headers["content-type"] == "application/json"
        assert reply.json == as_json(recommender.recommend(**question), recommender)


def test_a_list_of_questions_is_answered_in_its_order_with_the_policy_of_each(pair) -> None:
    server, recommender, questions = pair
    policies = (None, True, False)
    rows = [{**row, "exclude_seen": policies[i % 3]} for i, row in enumerate(questions)]
    answers = server.ask(rows).json
    assert len(answers) == len(rows)
    for answer, row in zip(answers, rows, strict=True):
        alone = as_json(recommender.recommend(**row), recommender)
        assert answer["n_known"] == alone["n_known"]
        assert [i["id"] for i in answer["items"]] == [i["id"] for i in alone["items"]]
        scores = [item["score"] for item in alone["items"]]
        assert [i["score"] for i in answer["items"]] == pytest.approx(scores, abs=1e-4)
    assert server.ask([]).json == []


def test_the_model_tells_its_facts_and_the_whole_sha256(pair) -> None:
    server, recommender, _ = pair
    reply = server.send("GET", "/v1/model")
    info = recommender.info
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json["sha256"] == info.sha256
    assert reply.json["n_items"] == info.n_items
    assert reply.json["profile"] == info.profile
    assert reply.json["metrics"] == json.loads(json.dumps(info.metrics))
    assert reply.json["parity"] == json.loads(json.dumps(info.parity))


def test_a_healthy_server_says_so(pair) -> None:
    server, recommender, _ = pair
    assert server.send("GET", "/healthz").json == {"status": "alive"}
    ready = server.send("GET", "/readyz")
    assert ready.status == 200
    assert ready.json == {"status": "ready", "model_version": recommender.info.sha256[:12]}


def test_a_connection_is_kept_and_nothing_is_allowed_to_other_origins(strings) -> None:
    connection = strings.client()
    for _ in range(3):
        connection.request("GET", "/healthz", headers={"Origin": "https://example.org"})
        response = connection.getresponse()
        assert response.read() == b'{"status":"alive"}'
        assert not [name for name in response.headers if name.lower().startswith("access-")]
        socket_of_first = connection.sock
        assert socket_of_first is not None
    connection.close()


def test_an_answer_is_not_held_back_until_the_client_confirms_its_head() -> None:
    # asyncio sends at once only on sockets that say that they are TCP.
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_the_runtime_without_the_extra_knows_nothing_of_http() -> None:
    code = (
        "import sys, attnrec.runtime; "
        "assert not {'starlette', 'uvicorn', 'msgspec', 'httptools', 'asyncio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_extra_the_command_prints_how_to_install_it() -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from attnrec.cli.main import serve; serve()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.strip().endswith("pip install 'attnrec[serve]'")
    assert "Traceback" not in result.stderr
