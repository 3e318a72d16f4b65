"""Another log is read so that its ids match those of the file."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attnrec.export import export
from attnrec.runtime import DataError, Recommender, RunError
from attnrec.train import DataRecipe, TrainConfig, evaluate, train
from attnrec.train.evaluation.comparison import compare
from attnrec.train.evaluation.files import log_to_evaluate

YEAR = 365 * 86400


def log_of(users: list[str], items: list[str], later: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = [
        (user, items[item], 1_600_000_000 + later * YEAR + 60 * place, "view" if place else "cart")
        for user in users
        for place, item in enumerate(rng.permutation(len(items))[:8])
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "event"])


def exported(log: pd.DataFrame, out: Path, model: str = "popularity", **recipe: object) -> Path:
    settings = {} if model == "popularity" else {"hidden_dim": 8}
    config = TrainConfig(model, settings, epochs=10 if model == "neumf" else 1, learning_rate=0.05)
    run = train(log, config, recipe=DataRecipe(**recipe), out=out)  # type: ignore[arg-type]
    export(run, out / "model.onnx", allow_users=True)
    return out / "model.onnx"


NUMBERS = [f"{number}" for number in range(100, 112)]
FLOATS = [f"{number}.0" for number in NUMBERS]


@pytest.fixture(scope="module")
def of_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of text ids, of users and of items, most of which look like numbers."""
    log = log_of([*NUMBERS, "x"], [*NUMBERS, "y"])
    return exported(log, tmp_path_factory.mktemp("texts") / "run", "user-item-attention")


@pytest.fixture(scope="module")
def of_numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    log = log_of(NUMBERS, NUMBERS)
    return exported(log, tmp_path_factory.mktemp("numbers") / "run", events=("view", "cart"))


def test_users_and_items_that_all_look_like_numbers_are_text_in_a_file_of_texts(
    of_texts: Path,
) -> None:
    alike = log_of(NUMBERS, NUMBERS, later=1)
    as_text = evaluate(of_texts, alike)
    assert as_text.missing_targets == 0
    as_numbers = alike.assign(user_id=alike.user_id.astype(int), item_id=alike.item_id.astype(int))
    assert evaluate(of_texts, as_numbers).to_json() == as_text.to_json()


def test_floats_are_the_numbers_that_a_file_knows(of_numbers: Path, of_texts: Path) -> None:
    numbers, floats = log_of(NUMBERS, NUMBERS, later=1), log_of(FLOATS, FLOATS, later=1)
    assert evaluate(of_numbers, floats).to_json() == evaluate(of_numbers, numbers).to_json()
    assert evaluate(of_texts, floats).missing_targets == 0


def test_numbers_are_the_floats_that_a_file_knows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = exported(log_of(NUMBERS, FLOATS), tmp_path / "run", id_type="string")
    expected = evaluate(file, log_of(NUMBERS, FLOATS, later=1))
    assert expected.missing_targets == 0
    assert evaluate(file, log_of(NUMBERS, NUMBERS, later=1)).to_json() == expected.to_json()
    assert "item ids such as '1" in caplog.text and str(file) in caplog.text


@pytest.mark.parametrize(
    ("known", "given"),
    [(FLOATS, NUMBERS), (NUMBERS, FLOATS), ([*FLOATS, "x"], [*NUMBERS, "x"])],
    ids=["floats as numbers", "numbers as floats", "beside another text"],
)
def test_users_of_another_spelling_are_those_that_the_file_knows(
    known: list[str], given: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = exported(log_of(known, NUMBERS), tmp_path / "run", "neumf", id_type="string")
    expected = evaluate(file, log_of(known, NUMBERS, later=1)).to_json()
    unknown = [f"unknown {user}" for user in given]
    assert evaluate(file, log_of(unknown, NUMBERS, later=1)).to_json() != expected
    caplog.clear()
    assert evaluate(file, log_of(given, NUMBERS, later=1)).to_json() == expected
    assert f"user ids such as {given[0]!r} are read as {known[0]!r}" in caplog.text


def test_ids_that_would_become_one_stay_as_they_are_written(tmp_path: Path) -> None:
    file = exported(log_of(NUMBERS, NUMBERS), tmp_path / "run", id_type="string")
    both = log_of(NUMBERS, [*FLOATS, "100"], later=1)
    log = log_to_evaluate(file, Recommender.load(file).info, both)
    assert sorted(log.events.item_ids) == sorted([*FLOATS, "100"])


def test_another_log_need_not_have_every_event_type(of_numbers: Path) -> None:
    later = log_of(NUMBERS, NUMBERS, later=1)
    assert evaluate(of_numbers, later[later.event == "view"]).n_users == len(NUMBERS)
    with pytest.raises(DataError, match="no row has the event type 'view', there are 'buy'"):
        evaluate(of_numbers, later.assign(event="buy"))


def test_a_log_of_other_columns_is_refused_with_the_recipe(of_numbers: Path) -> None:
    other = log_of(NUMBERS, NUMBERS, later=1).rename(columns={"item_id": "product"})
    with pytest.raises(DataError, match="no column 'item_id'") as caught:
        evaluate(of_numbers, other)
    assert f"read by the recipe in {of_numbers}" in str(caught.value)
    assert "`" not in str(caught.value), "nothing can be set here"


def test_a_run_is_the_file_in_it(of_numbers: Path, tmp_path: Path) -> None:
    assert evaluate(of_numbers.parent).to_json() == evaluate(of_numbers).to_json()
    assert compare([of_numbers.parent]).files[0].path == str(of_numbers)
    with pytest.raises(RunError, match=r"without model\.onnx; export the run first \(attnrec-exp"):
        evaluate(tmp_path)


def test_the_own_log_of_a_file_is_known_where_its_ids_were_wanted_as_texts(tmp_path) -> None:
    rows = [(user, user % 4 + step % 5, 1_600_000_000 + 977 * (5 * user + step))
            for user in range(40) for step in range(5)]  # fmt: skip
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    recipe = DataRecipe(id_type="string", repeats=True)
    run = train(log, TrainConfig("popularity"), recipe=recipe, out=tmp_path / "run")
    file = run.directory / "model.onnx"
    export(run, file)
    again, own = evaluate(file, log), evaluate(file)
    assert again.n_left_out == 0 and again.to_json() == own.to_json()


def test_a_part_that_there_is_not_is_refused_and_not_taken_for_the_test(of_numbers: Path) -> None:
    for measure in (evaluate, lambda path, part: compare([path], part=part)):
        with pytest.raises(ValueError, match="no part 'validation'; there are: valid, test"):
            measure(of_numbers, part="validation")  # type: ignore[operator]
