"""Every option of `attnrec-serve` changes what a server does."""

import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from attnrec.cli.console import EVERYWHERE
from attnrec.cli.serve import serve

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"
HEAVY = [{"history": [1] * 100_000, "k": 1}] * 16
LARGE = ("--max-body", 100_000_000)


def status_for(host: str) -> Callable[[Any], int]:
    """Of a request that names this host."""
    return lambda server: server.get("/v1/model", {"Host": host}).status


def answer(server: Any) -> Any:
    return server.post({"history": []}).json


def is_closed_when_idle(server: Any) -> bool:
    connection = server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    connection.settimeout(1.5)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    finally:
        connection.close()
    return True


def is_reached_at_another_address(server: Any) -> bool:
    try:
        socket.create_connection(("127.0.0.2", server.port)).close()
    except ConnectionRefusedError:
        return False
    return True


def takes_another_catalogue(server: Any) -> bool:
    """The file is replaced by one with other ids."""
    file = Path(server.process.args[1])
    shutil.copy(FORMAT_1 / "tiny-int64.onnx", file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)
    succeeded, _ = server.reload()
    return succeeded == 1


def refused_of_three_at_once(server: Any) -> int:
    """Requests that each take a second or so."""
    replies: list[Any] = []
    clients = [
        threading.Thread(target=lambda: replies.append(server.post(HEAVY))) for _ in range(3)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert {reply.status for reply in replies} <= {200, 503}
    return sum(reply.status == 503 for reply in replies)


def status_when_stopped_meanwhile(server: Any) -> int:
    replies: list[Any] = []
    client = threading.Thread(target=lambda: replies.append(server.post(HEAVY * 2)))
    client.start()
    while server.post({"history": []}).status != 503:  # until the heavy one has the place
        assert client.is_alive()
        time.sleep(0.02)
    server.process.terminate()
    client.join()
    return replies[0].status


def writes_a_log(server: Any) -> bool:
    answer(server)
    server.stop()
    file = Path(server.process.args[1])
    return file.with_name("access.log").exists()


# For each option: the file, options it is tried with, its own words, what has to differ.
Case = tuple[str, tuple[object, ...], tuple[object, ...], Callable[[Any], Any]]
OPTIONS: dict[str, Case] = {
    "--host": ("tiny-string", (), ("0.0.0.0", "--insecure"), is_reached_at_another_address),
    "--port": ("tiny-string", (), ("FREE",), lambda server: server.port),
    "--token-file": ("tiny-string", (), ("FOLDER/token",), status_for("localhost")),
    "--insecure": ("tiny-string", (), (), status_for("192.0.2.1")),
    "--allowed-hosts": ("tiny-string", (), ("shop.example",), status_for("shop.example")),
    "--unavailable": ("tiny-string", (), ("FOLDER/gone",), answer),
    "--threads": ("tiny-int64", (*LARGE, "--queue", 0), (3,), refused_of_three_at_once),
    "--queue": ("tiny-int64", (*LARGE, "--threads", 1), (0,), refused_of_three_at_once),
    "--max-body": ("tiny-string", (), (5,), lambda server: server.post({"history": []}).status),
    "--deadline": ("tiny-int64", LARGE, (0.02,), lambda server: server.post(HEAVY).status),
    "--keep-alive": ("tiny-string", (), (1,), is_closed_when_idle),
    "--allow-change": ("tiny-string", (), (), takes_another_catalogue),
    "--access-log": ("tiny-string", (), ("FOLDER/access.log",), writes_a_log),
    "--grace": (
        "tiny-int64", (*LARGE, "--threads", 1, "--queue", 0), (0,), status_when_stopped_meanwhile,
    ),
}  # fmt: skip


def test_no_option_is_left_out_here() -> None:
    app = typer.Typer(add_completion=False)
    app.command()(serve)
    assert OPTIONS.keys() == {
        parameter.opts[0]
        for parameter in typer.main.get_command(app).params
        if parameter.param_type_name == "option" and parameter.name not in EVERYWHERE
    }


# These only look: the server of all tests, which has no options, shows what they change.
SHARED = {"--host", "--port", "--token-file", "--insecure", "--allowed-hosts", "--unavailable"} | {
    "--max-body", "--keep-alive",
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_changes_what_the_server_does(
    option: str, start, server, tmp_path: Path
) -> None:
    name, others, words, look = OPTIONS[option]
    (tmp_path / "token").write_text("0123456789abcdef" * 4)
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "gone").write_text("sku-1\nnull\nNone\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {"FREE": port, "FOLDER": tmp_path}

    def value(*given: object) -> Any:
        file = tmp_path / "model.onnx"
        shutil.copy(FORMAT_1 / f"{name}.onnx", file)
        return look(start(file, *others, *given))

    words = tuple(
        places.get(word, word.replace("FOLDER", str(tmp_path))) if isinstance(word, str) else word
        for word in words
    )
    before = look(server) if option in SHARED else value()
    assert before != value(option, *words)
