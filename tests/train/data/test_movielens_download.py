"""The download of MovieLens, from a real server that serves well or badly."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from movielens_files import as_archive

from attnrec.runtime.errors import DataError
from attnrec.train.data.movielens import download_movielens


class Publisher:
    """A server with one archive; `way` is how it behaves."""

    def __init__(self, archive: bytes) -> None:
        self.archive, self.way, self.requested = archive, "well", list[str]()
        self.checksum = (
            f"MD5 (ml-100k.zip) = {hashlib.md5(archive).hexdigest().upper()}\n".encode()
        )
        self.closing = threading.Event()
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.respond(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/movielens"

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        self.requested.append(request.path)
        body = self.checksum if request.path.endswith(".md5") else self.archive
        if self.way == f"404 {request.path.rsplit('.', 1)[1]}":
            request.send_error(404)
            return
        request.send_response(200)
        if self.way != "without length":
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        half = len(body) // 2
        if body is self.archive and self.way in ("truncated", "stalling", "corrupt"):
            request.wfile.write(body[:half])
            request.wfile.flush()
            if self.way == "stalling":
                self.closing.wait(60)
            if self.way != "corrupt":
                return
            body = bytes([body[half] ^ 1]) + body[half + 1 :]
        request.wfile.write(body)


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    shelf = Publisher(as_archive("ml-100k", tmp_path).read_bytes())
    monkeypatch.setenv("ATTNREC_MOVIELENS_URL", shelf.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with shelf.server:
        thread = threading.Thread(target=shelf.server.serve_forever, args=(0.01,))
        thread.start()
        yield shelf
        shelf.closing.set()
        shelf.server.shutdown()
        thread.join()


def refused(timeout: float = 30) -> str:
    with pytest.raises(DataError) as caught:
        download_movielens("movielens-100k", timeout=timeout)
    message = str(caught.value)
    assert message.endswith(
        "; nothing was kept. Try again, or download it by hand from "
        "https://grouplens.org/datasets/movielens/ and give its path: attnrec-train ml-100k.zip"
    )
    return message


def kept(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


@pytest.mark.parametrize("way", ["well", "without length"])
def test_a_good_archive_is_kept_with_its_checksum(publisher, tmp_path, way) -> None:
    publisher.way = way
    seen: list[tuple[int, int | None]] = []
    path = download_movielens("movielens-100k", progress=lambda *step: seen.append(step))
    assert path == tmp_path / "cache" / "attnrec" / "ml-100k.zip"
    assert path.read_bytes() == publisher.archive
    assert kept(tmp_path) == ["ml-100k.zip", "ml-100k.zip.md5"]
    size = len(publisher.archive)
    assert seen[-1] == (size, None if way == "without length" else size)
    assert publisher.requested == ["/movielens/ml-100k.zip.md5", "/movielens/ml-100k.zip"]


def test_what_is_there_is_fetched_again_only_when_damaged(publisher) -> None:
    path = download_movielens("movielens-100k")
    assert download_movielens("movielens-100k") == path and len(publisher.requested) == 2
    path.write_bytes(publisher.archive[:-1])
    assert download_movielens("movielens-100k").read_bytes() == publisher.archive
    path.with_name("ml-100k.zip.md5").write_bytes(b"\xff")
    download_movielens("movielens-100k")
    assert len(publisher.requested) == 6


@pytest.mark.parametrize(
    ("way", "problem"),
    [
        ("404 md5", "ml-100k.zip.md5: HTTP Error 404: Not Found"),
        ("404 zip", "ml-100k.zip: HTTP Error 404: Not Found"),
        ("truncated", "ml-100k.zip: it ended after"),
        ("corrupt", "ml-100k.zip: its MD5 is"),
        ("stalling", "ml-100k.zip: timed out"),
    ],
)
def test_a_bad_transfer_leaves_nothing_and_says_what_to_do(
    publisher, tmp_path, way, problem
) -> None:
    publisher.way = way
    assert f"{publisher.url}/{problem}" in refused(timeout=0.5)
    assert kept(tmp_path) == []


def test_a_bad_transfer_leaves_the_archive_that_was_there(publisher) -> None:
    path = download_movielens("movielens-100k")
    path.write_bytes(b"an archive of another year")
    publisher.way = "truncated"
    refused()
    assert path.read_bytes() == b"an archive of another year"


def test_a_page_instead_of_a_checksum_is_refused(publisher, tmp_path) -> None:
    publisher.checksum = b"<html>Please log in</html>"
    assert "ml-100k.zip.md5: it holds no MD5 checksum" in refused()
    assert kept(tmp_path) == []


def test_an_interruption_leaves_nothing(publisher, tmp_path) -> None:
    def interrupt(received: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_movielens("movielens-100k", progress=interrupt)
    assert kept(tmp_path) == []


def test_an_address_without_a_server_is_an_error(publisher, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("ATTNREC_MOVIELENS_URL", "http://127.0.0.1:9")
    assert "Connection refused" in refused()
    monkeypatch.setenv("ATTNREC_MOVIELENS_URL", "no address")
    assert "unknown url type" in refused()
    assert kept(tmp_path) == []
