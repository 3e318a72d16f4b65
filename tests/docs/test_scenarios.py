"""Every recipe of docs/scenarios.md runs as printed, on a log with its columns."""

import csv
import io
import random
import re
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from attnrec.cli.console import run_command
from attnrec.cli.export import export
from attnrec.cli.recommend.command import recommend
from attnrec.cli.train import train
from attnrec.runtime import Recommender
from attnrec.train import Run

pytestmark = pytest.mark.examples

PAGE = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECTIONS = {
    text.split("\n", 1)[0]: text for text in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
}
SMALL = ["--epochs", "1", "--hidden-dim", "16", "--threads", "1"]

Row = dict[str, object]


def block(section: str, language: str) -> str:
    (code,) = [code for kind, code in BLOCK.findall(SECTIONS[section]) if kind == language]
    return str(code)


def walks(chance: random.Random) -> Iterator[tuple[int, int, datetime]]:
    """Who, what, when: 40 people on a ring of 30 items, who sometimes stay where they are."""
    for user in range(40):
        item = chance.randrange(30)
        time = datetime(2024, 5, 1, tzinfo=UTC) + timedelta(minutes=chance.randrange(9999))
        for _ in range(chance.randrange(6, 16)):
            yield user, item, time
            item = (item + chance.choice([0, 1, 1, 2])) % 30
            time += timedelta(minutes=chance.randrange(1, 600))


def seconds(time: datetime) -> int:
    return int(time.timestamp())


CHANCE = random.Random(0)
LOGS: dict[str, Callable[[int, int, datetime], Row]] = {
    "Shop": lambda user, item, time: {
        "user_id": f"c{user}", "item_id": f"P-{item}", "timestamp": seconds(time),
        "event": CHANCE.choice(["view", "view", "cart", "purchase", "refund"]),
    },
    "Social": lambda user, item, time: {
        "user_id": f"u{user}", "post_id": f"p{item}",
        "created_at": time.isoformat().replace("+00:00", "Z"),
        "action": CHANCE.choice(["impression", "like", "comment", "share"]),
    },
    "News": lambda user, item, time: {
        "reader": f"r{user}", "article": f"a-20240529-{item:03}",
        "clicked_ms": 1000 * seconds(time),
    },
    "Music": lambda user, item, time: {
        "user_id": f"l{user}", "track_id": f"t-{item}", "played_at": f"{time:%Y-%m-%d %H:%M:%S}",
        "event": CHANCE.choice(["play", "play", "skip"]),
    },
    "Video": lambda user, item, time: {
        "user_id": f"v{user}", "item_id": f"clip-{item}", "timestamp": seconds(time),
        "watch_share": round(CHANCE.random(), 2),
    },
    "Places": lambda user, item, time: {
        "user_id": f"g{user}", "venue_id": f"v-{3300 + item if item else '0118'}",
        "checkin": time.astimezone(timezone(timedelta(hours=2))).isoformat(),
    },
}  # fmt: skip
TABLES: dict[str, list[Row]] = {
    "products.csv": [
        {
            "item_id": f"P-{i}",
            "title": f"Thing {i}",
            "category": "toys|gifts",
            "brand": f"b{i % 4}",
            "price": 10 + 3 * i,
        }
        for i in range(30)
    ],
    "members.csv": [
        {"user_id": f"u{i}", "interests": "chess|tea" if i % 2 else "", "country": "pt"}
        for i in range(40)
    ],
}


def write(path: Path, rows: list[Row]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def do(line: str) -> None:
    """Run a command of the page, with a small model."""
    name, *words = shlex.split(line)
    commands = {"attnrec-train": train, "attnrec-export": export, "attnrec-recommend": recommend}
    if name == "attnrec-train":
        words += SMALL
    with pytest.raises(SystemExit) as stopped:
        run_command(commands[name], words)
    assert not stopped.value.code, line


@pytest.fixture
def trained(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """The run that the commands of a section leave behind."""
    section = request.param
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    CHANCE.seed(section)
    write(tmp_path / f"{section.lower()}.csv", [LOGS[section](*step) for step in walks(CHANCE)])
    for name, rows in TABLES.items():
        write(tmp_path / name, rows)
    for line in block(section, "").replace("\\\n", "").splitlines():
        do(line)
    return Run.load(tmp_path / "attnrec-run")


def of(section: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("trained", [section], indirect=True, ids=[section.lower()])


@of("Shop")
def test_a_shop_weighs_purchases_and_knows_its_products(trained: Run) -> None:
    assert trained.split.sequences.weights is not None
    assert set(trained.split.sequences.weights.tolist()) == {1, 2, 4}
    assert trained.data["dropped_event_type"] > 0 and trained.data["dropped_repeated"] > 0
    attributes = trained.split.catalogue.attributes
    assert attributes is not None and attributes[0][:2] == ("category:toys", "category:gifts")
    assert trained.split.catalogue.titles[0].startswith("Thing ")


@of("Shop")
def test_a_shop_asks_with_rules_and_refreshes_prices_without_training(trained: Run) -> None:
    before = Recommender.load("shop.onnx")
    cheap = before.recommend([], k=30, at_most={"price": 50})
    items = {*before.items()}
    assert 0 < len(cheap) < len(items)
    write(Path("products.csv"), [row | {"price": 20} for row in TABLES["products.csv"]][:-1])
    do(block("Shop", "").splitlines()[-1])
    after = Recommender.load("shop.onnx")
    found = after.recommend([], k=30, at_most={"price": 50}).item_ids
    assert {*found} == items - {"P-29"} and len(found) > len(cheap)


@of("Social")
def test_a_social_log_keeps_the_tags_of_its_members(trained: Run) -> None:
    assert set(trained.split.sequences.weights.tolist()) == {1, 2, 3}
    log = trained.split.interactions
    assert dict(zip(log.user_ids, log.user_tags, strict=True))["u7"] == (
        "interests:chess", "interests:tea", "country:pt",
    )  # fmt: skip
    assert (trained.data["time_unit"], trained.data["dropped_event_type"] > 0) == ("iso", True)


@of("News")
def test_news_have_a_short_memory_and_times_in_milliseconds(trained: Run) -> None:
    assert (trained.model.config.max_len, trained.data["time_unit"]) == (20, "ms")
    assert trained.data["first_time"].startswith("2024-05-0")


@of("Music")
def test_music_repeats_and_skips_are_left_out(trained: Run) -> None:
    assert trained.recipe.repeats and trained.data["dropped_event_type"] > 0
    assert trained.split.sequences.weights is None
    rows, offsets = trained.split.sequences.rows, trained.split.sequences.offsets
    assert any(len(set(rows[a:b])) < b - a for a, b in pairwise(offsets))


@of("Video")
def test_a_video_counts_from_half_of_it_on(trained: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(Path("video.csv").read_text(encoding="utf-8"))))
    short = sum(float(row["watch_share"]) < 0.5 for row in rows)
    assert 0 < trained.data["dropped_rating"] == short


@of("Places")
def test_places_are_recommended_among_those_nearby(trained: Run, capsys) -> None:
    assert trained.recipe.repeats and trained.data["time_unit"] == "iso"
    do(block("Places", "").splitlines()[-1] + " --json")
    near = {"v-0118", "v-3302", "v-3303"}
    assert near == set(re.findall(r"v-\d+", capsys.readouterr().out)) - {"v-3301"}


@pytest.mark.parametrize("section", LOGS)
def test_the_example_has_the_columns_of_the_tested_log(section: str) -> None:
    header, *rows = csv.reader(io.StringIO(block(section, "csv")))
    made = LOGS[section](1, 2, datetime(2024, 5, 29, tzinfo=UTC))
    assert header == list(made)
    assert len(rows) == 3 and {len(row) for row in rows} == {len(header)}
    for name, table in TABLES.items():
        if name in SECTIONS[section]:
            assert f"`{','.join(table[0])}`" in SECTIONS[section]


def test_every_section_is_tested() -> None:
    assert list(SECTIONS) == list(LOGS)
