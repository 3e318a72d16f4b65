"""Side tables of the log and weights of event types, on the command line."""

from pathlib import Path

import pandas as pd
import pytest

from attnrec.train import Run


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log of views and carts, its items and its users."""
    folder = tmp_path_factory.mktemp("shop")
    rows = [(u, (u + s) % 9, s, "cart" if s % 3 else "view") for u in range(9) for s in range(6)]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "event"])
    log.to_csv(folder / "log.csv", index=False)
    items = pd.DataFrame({"item_id": range(9), "title": "T", "kind": ["x|y"] * 9, "hue": "red"})
    items.to_csv(folder / "items.csv", index=False)
    pd.DataFrame({"user_id": range(9), "plan": "free"}).to_csv(folder / "users.csv", index=False)
    return folder


def test_the_contents_of_the_tables_are_kept_in_the_run(run, shop, tmp_path) -> None:
    tables = ["--items", shop / "items.csv", "--attribute-cols", "kind,hue"]
    tables += ["--users", shop / "users.csv", "--tag-cols", "plan"]
    options = [*tables, "--event-weights", "cart=2.5", "--repeats", "--model", "popularity"]
    outcome = run("train", shop / "log.csv", *options, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert "9 with a title, 9 described" in outcome.err and "9 with tags" in outcome.err
    kept = Run.load(tmp_path / "run")
    assert kept.recipe.attribute_cols == ("kind", "hue") and kept.recipe.tag_cols == ("plan",)
    assert kept.recipe.event_weights == {"cart": 2.5}
    catalogue, log = kept.split.catalogue, kept.split.interactions
    assert catalogue.attributes is not None and log.user_tags is not None
    assert catalogue.attributes[0] == ("kind:x", "kind:y", "hue:red")
    assert log.user_tags.tolist() == [("free",)] * 9
    assert kept.split.sequences.weights is not None
    assert set(kept.split.sequences.weights.tolist()) == {1, 2.5}


def test_other_data_is_evaluated_without_the_weights_of_training(run, shop, tmp_path) -> None:
    options = ["--event-weights", "cart=2", "--model", "popularity", "--out", tmp_path / "run"]
    assert run("train", shop / "log.csv", *options).code == 0
    assert run("export", tmp_path / "run").code == 0
    log = pd.read_csv(shop / "log.csv").drop(columns="event")
    log.to_csv(tmp_path / "bare.csv", index=False)
    outcome = run(
        "evaluate", tmp_path / "run" / "model.onnx", "--data", tmp_path / "bare.csv", "--json"
    )
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("cart=", "'cart=' is not a type with a weight; write for example cart=2,purchase=4"),
        ("cart", "'cart' is not a type with a weight"),
        ("cart=0", "must be finite numbers above 0, not cart=0.0; leave events out"),
        ("cart=2,cart=3", "names 'cart' twice"),
        ("buy=2", "no row has the event type 'buy', there are 'view', 'cart'"),
    ],
)
def test_wrong_weights_are_refused(run, shop, tmp_path, text, problem) -> None:
    outcome = run("train", shop / "log.csv", "--event-weights", text, "--out", tmp_path / "run")
    assert (outcome.code, outcome.out) == (2, "")
    assert problem in outcome.err and "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_final_takes_tables_and_weights_from_its_run(run, shop, tmp_path) -> None:
    outcome = run("train", "--final", tmp_path, "--event-weights", "cart=2")
    assert outcome.code == 2 and "--event-weights cannot be given with it" in outcome.err


def test_tables_in_several_files_are_read_by_every_command(run, shop, tmp_path) -> None:
    for name in ("log", "items"):
        table = pd.read_csv(shop / f"{name}.csv")
        (tmp_path / name).mkdir()
        for part, start in enumerate(range(0, len(table), 7)):
            path = tmp_path / name / f"part-{part:05}.csv.gz"
            table[start : start + 7].to_csv(path, sep="\t", index=False)
    logs, out = tmp_path / "log" / "*.csv.gz", tmp_path / "run"
    tables = [logs, "--items", tmp_path / "items", "--sep", "\\t"]
    options = ["--model", "popularity", "--repeats"]
    outcome = run("train", *tables, *options, "--out", out)
    assert outcome.code == 0 and "9 with a title" in outcome.err, outcome.err
    assert Run.load(out).recipe.sep == "\t"
    plain = run("train", shop / "log.csv", *options, "--out", tmp_path / "plain", "--json")
    assert Run.load(out).data["fingerprint"] == Run.load(tmp_path / "plain").data["fingerprint"]
    assert plain.code == 0 and run("export", out).code == 0
    outcome = run("evaluate", out / "model.onnx", "--data", tmp_path / "log", "--json")
    assert outcome.code == 0, outcome.err


def test_a_separator_without_csv_files_is_refused(run, shop, tmp_path) -> None:
    pd.read_csv(shop / "log.csv").to_parquet(tmp_path / "log.parquet")
    outcome = run("train", tmp_path / "log.parquet", "--sep", ";")
    assert outcome.code == 2
    assert "--sep is read only with a table in CSV files" in outcome.err
