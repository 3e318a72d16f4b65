"""`attnrec-train movielens-100k` and its archive, given on the command line."""

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from movielens_files import as_archive

COUNTS = ("--model", "popularity", "--json")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that a local server offers in place of the publisher's."""
    folder = tmp_path / "published"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    monkeypatch.setenv("ATTNREC_MOVIELENS_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield folder
        server.shutdown()
        thread.join()


def publish(folder: Path, edition: str) -> Path:
    archive = as_archive(edition, folder)
    checksum = hashlib.md5(archive.read_bytes()).hexdigest()
    archive.with_name(f"{archive.name}.md5").write_text(f"{checksum}  {archive.name}\n")
    return archive


def test_the_name_downloads_once_after_showing_the_terms(run, shelf, tmp_path) -> None:
    archive = publish(shelf, "ml-100k")
    first = run("train", "movielens-100k", *COUNTS)
    assert first.code == 0, first.err
    assert "for research, not for commercial use without permission" in first.err
    assert "https://grouplens.org/datasets/movielens/" in first.err
    assert f"is kept in {tmp_path / 'cache' / 'attnrec' / 'ml-100k.zip'}" in first.err
    by_hand = run("train", archive, *COUNTS)
    assert json.loads(by_hand.out) == json.loads(first.out)
    assert "GroupLens" not in by_hand.err
    archive.unlink()
    assert json.loads(run("train", "movielens-100k", *COUNTS).out) == json.loads(first.out)


@pytest.mark.parametrize("edition", ["1m", "latest-small"])
def test_other_editions_have_names_too(run, shelf, edition) -> None:
    publish(shelf, f"ml-{edition}")
    outcome = run("train", f"movielens-{edition}", *COUNTS)
    assert outcome.code == 0, outcome.err


def test_a_failed_download_is_one_message_and_no_run(run, shelf, tmp_path) -> None:
    outcome = run("train", "movielens-1m", *COUNTS)
    assert (outcome.code, outcome.out) == (2, "")
    assert "404" in outcome.err and "give its path: attnrec-train ml-1m.zip" in outcome.err
    assert "Traceback" not in outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["published"]


def test_a_folder_of_that_name_is_read_and_nothing_is_downloaded(run, shelf, tmp_path) -> None:
    (tmp_path / "movielens-100k").mkdir()
    outcome = run("train", "movielens-100k", *COUNTS)
    assert outcome.code == 2 and "movielens-100k: the folder holds no file" in outcome.err
