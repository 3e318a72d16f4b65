"""The library names settings, as Python has them; a command names its own options."""

import shlex
from pathlib import Path

import pytest
import typer

from attnrec.cli.train import train
from attnrec.runtime.errors import DataError, RunError
from attnrec.train.data.load import load_interactions
from attnrec.train.runs.target import check_target

QUICK = ("--model", "popularity", "--threads", "1", "--no-report")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write(tmp_path / "shop.csv", "user_id,product,timestamp,event\n" + "".join(
        f"{user}.0,{10 + (user + step) % 7}.0,{1_700_000_000 + step},view\n"
        for user in range(9) for step in range(5)
    ))  # fmt: skip


def test_a_missing_column_is_named_with_the_setting_in_python_and_the_option_here(
    run, shop
) -> None:
    with pytest.raises(DataError, match=r"name the right one with `item_col`$"):
        load_interactions(shop)
    outcome = run("train", shop, *QUICK)
    assert outcome.code == 2
    assert outcome.err.strip().endswith("name the right one with --item-col")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--events", "view, buy"),
            "no row has the event type ' buy', there are 'view'; see --ev",
        ),
        (("--time-unit", "iso"), "is a number, not ISO 8601 text; leave --time-unit iso out"),
        (("--id-type", "int64", "--user-col", "event"), "is not a plain int64 number; give --id-"),
        (("--min-item-events", "99"), "lower --min-item-events, which is 99"),
        (("--event-weights", "view=0"), "leave events out that shall not count, with --events"),
    ],
)
def test_remedies_are_options(run, shop, options, message) -> None:
    outcome = run("train", shop, "--item-col", "product", *QUICK, *options)
    assert outcome.code == 2 and message in outcome.err, outcome.err
    assert "`" not in outcome.err


def test_an_empty_name_is_quoted_so_that_the_remedy_can_be_copied(run, shop, tmp_path) -> None:
    items = write(tmp_path / "items.csv", "product,kind\n10,red\n11,blue\n")
    words = ("train", shop, "--item-col", "product", "--items", items, *QUICK)
    words = (*words, "--title-col", "name", "--out", tmp_path / "run")
    refused = run(*words)
    remedy = refused.err.strip().rpartition("or leave titles out with ")[2]
    assert refused.code == 2 and remedy == "--title-col ''"
    assert run(*words, *shlex.split(remedy)).code == 0


@pytest.mark.parametrize("column", ["user", "item", "time"])
def test_a_column_without_a_name_is_refused_by_its_option(run, shop, column) -> None:
    outcome = run("train", shop, f"--{column}-col", "", *QUICK)
    assert outcome.code == 2
    assert outcome.err == f"error: --{column}-col must be a column name, not ''\n"


def test_an_items_table_that_nothing_is_read_from_is_refused(run, shop, tmp_path) -> None:
    items = write(tmp_path / "items.csv", "product,shop\n10,ours\n11,ours\n")
    words = ("--item-col", "product", "--items", items, *QUICK)
    outcome = run("train", shop, *words, "--out", tmp_path / "run")
    assert outcome.code == 2
    assert "no column describes an item: shop (one value); name columns with --title-col, " in (
        outcome.err
    )


def test_a_setting_of_the_model_is_one_for_set(run, shop, tmp_path) -> None:
    options = ("--item-col", "product", "--model", "ease", "--set", "most_gb=0.0000001")
    outcome = run("train", shop, *options, "--out", tmp_path / "run")
    assert outcome.code == 2 and "raise the limit with --set most_gb=1" in outcome.err


@pytest.mark.parametrize("follow", ["--like", "--init-from"])
def test_a_log_that_is_not_given_is_called_a_log(run, follow, tmp_path) -> None:
    outcome = run("train", follow, tmp_path)
    assert outcome.code == 2 and "--data" not in outcome.err
    assert outcome.err.endswith(f"a log of its own: attnrec-train DATA {follow} RUN\n")


def test_a_run_can_be_evaluated_as_it_is_exported(run, shop, tmp_path) -> None:
    folder = tmp_path / "run"
    trained = run("train", shop, "--item-col", "product", *QUICK, "--out", folder)
    assert trained.code == 0, trained.err
    assert "ids such as '10.0' are read as the whole numbers that they are" in trained.err
    early = run("evaluate", folder)
    assert early.code == 2 and f"export the run first (attnrec-export {folder})" in early.err
    assert run("export", folder).code == 0
    assert run("evaluate", folder, "--json").code == 0
    assert run("recommend", folder / "model.onnx", "--history", "12", "-k", "2").code == 0
    other = write(tmp_path / "other.csv", shop.read_text().replace("product", "item"))
    refused = run("evaluate", folder, "--data", other)
    assert refused.code == 2 and "read by the recipe in" in refused.err
    assert "--item-col" not in refused.err and "item_col" not in refused.err


def test_options_of_epochs_are_said_to_be_unused_where_a_model_counts(run, shop, tmp_path) -> None:
    options = ("--item-col", "product", "--out", tmp_path / "run", "--no-report")
    counted = run("train", shop, *options, "--model", "popularity", "--epochs", "3")
    assert counted.code == 0, counted.err
    assert "--epochs: not used, popularity is counted in one pass over the log" in counted.err


def numbers_of_train() -> dict[str, str]:
    """Options of attnrec-train that take a number, each with a value that none of them takes."""
    app = typer.Typer(add_completion=False)
    app.command()(train)
    wrong = {int: "-1", float: "nan"}
    return {
        parameter.opts[0]: wrong[kind]
        for parameter in typer.main.get_command(app).params
        if (kind := parameter.type_descriptor.annotation) in wrong
    }


NUMBERS = numbers_of_train()


def test_the_walk_finds_the_options() -> None:
    assert {"--epochs", "--threads", "--seed", "--hidden-dim", "--n-blocks"} <= set(NUMBERS)


@pytest.mark.parametrize("option", NUMBERS)
def test_a_wrong_number_is_refused_by_the_name_of_its_option(run, shop, tmp_path, option) -> None:
    words = ("--item-col", "product", "--model", "sasrec", "--out", tmp_path / "run")
    outcome = run("train", shop, *words, option, NUMBERS[option])
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {option} must be a "), outcome.err


def test_settings_that_do_not_go_together_are_named_as_options(run, shop) -> None:
    outcome = run("train", shop, "--model", "sasrec", "--hidden-dim", "63", "--set", "n_heads=2")
    assert outcome.err == (
        "error: --hidden-dim 63 is not divisible by --set n_heads=2; change one of them\n"
    )


@pytest.mark.parametrize(
    "assignment", ["n_negatives=0", "temperature=0", "logits=l2", "decayed_history=2", "nothing=1"]
)
def test_a_setting_without_an_option_is_named_as_it_was_set(run, shop, assignment) -> None:
    outcome = run("train", shop, "--model", "sasrec", "--set", assignment)
    assert outcome.code == 2 and "`" not in outcome.err, outcome.err
    assert assignment.partition("=")[0] in outcome.err


def test_how_to_go_on_is_said_in_the_words_of_the_caller(run, shop, tmp_path) -> None:
    kept = tmp_path / "run.unfinished"
    kept.mkdir()
    checkpoint = write(kept / "epoch-000001-step-000001.checkpoint", "")
    words = ("train", shop, "--item-col", "product", "--out", tmp_path / "run", *QUICK)
    trained = run(*words)
    assert "go on with --resume, or delete" in trained.err and "True" not in trained.err
    sought = run("tune", *words[1:-5], "--model", "sasrec", "--minutes", "1")
    assert "True" not in sought.err and "go on with attnrec train and --resume" in sought.err
    with pytest.raises(RunError, match=r"go on with `resume`, or delete"):
        check_target(tmp_path / "run")
    checkpoint.unlink()
    write(kept / "tuning.journal", "{}")
    trained = run(*words)
    assert "go on with attnrec tune and --resume, or delete" in trained.err
    assert "True" not in trained.err
