"""The page about nights: three of them, one with a broken log and one with a worse model."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from documents import blocks, run_python, run_shell

from attnrec.runtime import Recommender
from attnrec.train import Run

pytestmark = pytest.mark.examples

PAGE = "docs/nightly.md"
DAY, START, N_DAYS = 86_400, 1_600_000_000, 60
QUICK = "--threads 1 --no-report"
SMALL = "--model sasrec --max-len 10 --n-blocks 1"
TOKEN = "token-of-the-night-shift"
HEADER = "user_id,item_id,timestamp\n"


def events(day_from: int, day_to: int) -> str:
    """People go around a ring of 40 items, each by a step or two a visit; 60 visits a day."""
    rng = np.random.default_rng(0)
    lines, place = [], rng.integers(0, 40, 100)
    for visit in range(60 * day_to):
        person = int(rng.integers(100))
        place[person] = (place[person] + 1 + rng.integers(2)) % 40
        if visit >= 60 * day_from:
            item, time = place[person], START + visit * DAY // 60
            lines.append(f"{person},item {item:02},{time}\n")
    return "".join(lines)


class Shop:
    """A folder with a log, a script of the page, and a server of its file."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.n_days = folder, N_DAYS
        self.served = folder / "served/model.onnx"
        self.write(events(0, N_DAYS))
        (night,) = blocks(PAGE, "sh", "set -e")
        for out in ("runs/tonight", "runs/final"):
            night = night.replace(f"--out {out}", f"{QUICK} --out {out}")
        (folder / "night.sh").write_text(night.replace(":8000", ":$PORT"))

    def write(self, log: str) -> None:
        (self.folder / "events.csv").write_text(HEADER + log)

    def grow(self) -> None:
        """One more day in the log."""
        self.n_days += 1
        self.write(events(0, self.n_days))

    def open(self, start) -> None:
        token = self.folder / "token"
        token.write_text(TOKEN)
        self.server = start(self.served, "--token-file", token)
        self.server.headers = {**self.server.headers, "Authorization": f"Bearer {TOKEN}"}

    def night(self) -> tuple[int, str]:
        """The exit code, and the last line on standard error."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        given = {"PATH": path, "OMP_NUM_THREADS": "1", "TOKEN": TOKEN}
        done = subprocess.run(
            ["sh", "night.sh"], cwd=self.folder, text=True, capture_output=True,
            env={**os.environ, **given, "PORT": str(self.server.port)},
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done.returncode, (done.stderr.strip().splitlines() or [""])[-1]

    def state(self) -> tuple[str, bytes, int | None]:
        """What is served, what lies on the disk, and until when the last run has seen events."""
        version = self.server.post({"history": []}).json["model_version"]
        last = Run.load(self.folder / "runs/last")
        return version, self.served.read_bytes(), last.seen_until()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, start) -> Shop:
    """After the first night of the page."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    (first,) = blocks(PAGE, "", "--split time")
    folders, train, final, export = first.splitlines()
    run_shell(folders, shop.folder)
    run_shell(f"{train} {SMALL} --hidden-dim 16 --epochs 8 --repeats {QUICK}", shop.folder)
    run_shell(f"{final} {QUICK}", shop.folder)
    run_shell(export, shop.folder)
    shop.open(start)
    return shop


def test_three_nights_of_which_two_leave_what_is_served(shop: Shop) -> None:
    first = shop.state()
    code, message = shop.night()
    assert code == 2 and message.startswith("error: ")
    assert shop.state() == first
    shop.grow()
    code, message = shop.night()
    assert code == 0, message
    second = shop.state()
    assert all(a != b for a, b in zip(first, second, strict=True))
    assert Recommender.load(shop.served).info.metrics["init_from"]["run"] == "tonight"

    # A log that was cut while it was written.
    shop.write(events(0, shop.n_days + 1)[:-20] + '"')
    code, message = shop.night()
    assert code == 2 and message.startswith("error: events.csv")
    assert shop.state() == second

    # What goes on from a run that knows next to nothing is worse than what is served.
    shop.grow()
    last, kept = shop.folder / "runs/last", shop.folder / "runs/kept"
    last.rename(kept)
    poor = f"{SMALL} --hidden-dim 8 --epochs 1 --repeats {QUICK} --out runs/last"
    (shop.folder / "before.csv").write_text(HEADER + events(0, N_DAYS))
    run_shell(f"attnrec-train before.csv --split time --test-days 0.5 {poor}", shop.folder)
    code, message = shop.night()
    assert code == 1 and "is certainly worse than served/model.onnx" in message
    run_shell("rm -rf runs/last && mv runs/kept runs/last", shop.folder)
    assert shop.state() == second


def test_a_file_that_the_server_refuses_goes_back(shop: Shop) -> None:
    before = shop.state()
    script = shop.folder / "night.sh"
    whole = script.read_text()
    # As far as the file of another shop lies there.
    lines = [line for line in whole.splitlines() if not line.startswith("attnrec-")]
    script.write_text("\n".join(lines))
    other = Path(__file__).parents[1] / "data" / "format-1" / "tiny-string.onnx"
    shutil.copy(other, shop.folder / "served" / "next.onnx")
    (_, n_failed), (code, _), (_, n_then) = (
        shop.server.reloads(), shop.night(), shop.server.reloads(),
    )  # fmt: skip
    script.write_text(whole)
    assert code == 1 and n_then == n_failed + 1
    assert shop.state() == before


def test_the_same_in_python_and_by_the_hour(shop: Shop) -> None:
    shop.grow()
    (night,) = blocks(PAGE, "python", "from pathlib")
    before = shop.served.read_bytes()
    run_python(night, shop.folder)
    assert shop.served.read_bytes() != before
    (hourly,) = blocks(PAGE, "", "--recent")
    shop.grow()
    popular = f"attnrec-train events.csv --model popularity --split time {QUICK} --out runs/final"
    run_shell(popular, shop.folder)
    shop.grow()
    run_shell(hourly.replace("--quantize ", ""), shop.folder)
    newest = Recommender.load(shop.folder / "served/next.onnx").info
    assert newest.data["seen_until"] > START + (shop.n_days - 1) * DAY
