"""100 clients that do not read: they have 30 seconds, in which the other tests run."""

import json
import socket
import threading
import time

import pytest

from attnrec.runtime.serving.connections import WRITE_SECONDS

HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
ROWS = json.dumps([{"history": [], "k": 32}] * 256).encode()  # about 600 kB of answer
MANY = HEAD + b"Content-Length: %d\r\n\r\n" % len(ROWS) + ROWS


class Unread(threading.Thread):
    """100 clients that request three large answers each and read nothing."""

    def __init__(self, server) -> None:
        super().__init__(daemon=True)
        self.server, self.error = server, None
        self.unread, self.grown, self.n_refused = [], [], 0.0

    def run(self) -> None:
        try:
            self.before = self.server.memory()
            self.watch([self.client() for _ in range(100)])
        except BaseException as error:
            self.error = error

    def client(self) -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", self.server.port))
        client.sendall(MANY * 3)
        return client

    def watch(self, clients: list[socket.socket]) -> None:
        """Until each has had an answer, and those that did not read it are sent away."""
        deadline = time.monotonic() + WRITE_SECONDS + 60
        answered = 0.0
        while answered < 100 or self.unread[-1]:
            assert time.monotonic() < deadline
            assert self.server.post({"history": []}).status == 200
            self.unread.append(self.server.metric("attnrec_unread_bytes"))
            self.grown.append(self.server.memory() - self.before)
            ok, refused = (
                self.server.metric("attnrec_requests_total", route="/v1/recommend", status=status)
                for status in ("200", "503")
            )
            answered, self.n_refused = ok + refused - len(self.unread), refused
            time.sleep(0.2)
        for client in clients:
            client.close()


@pytest.fixture(scope="session")
def unread(start):
    """Begins with the first test that uses it; the last of `test_slow_clients` awaits its end."""
    server = start("tiny-string", "--queue", 500)
    thread = Unread(server)
    thread.start()
    return thread
