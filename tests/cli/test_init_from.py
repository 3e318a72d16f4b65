"""`attnrec-train --init-from RUN --quantize-aware int4`, as a person uses it."""

import json
import shutil
from pathlib import Path

import pytest

from attnrec.cli.console import run_command
from attnrec.cli.train import train
from attnrec.runtime import Recommender
from attnrec.train import Run


@pytest.fixture
def before(trained: Path, tmp_path: Path) -> Path:
    """A run of its own, without a file."""
    shutil.copytree(trained, tmp_path / "shop", ignore=shutil.ignore_patterns("model.onnx"))
    return tmp_path / "shop"


def test_the_new_run_lands_beside_the_first_and_its_int4_file_passes_the_gate(run, before) -> None:
    outcome = run("train", "--init-from", before, "--quantize-aware", "int4", "--threads", 1)
    assert outcome.code == 0, outcome.err
    assert "int4 beside the run it came from (30 users): overlap@10 0." in outcome.out
    assert "paired 95 % interval" in outcome.out
    made = before.with_name("shop-int4")
    assert f"Next: attnrec-export {made} --quantize int4" in outcome.err
    assert (made / "report.html").is_file()
    exported = run("export", made, "--quantize", "int4", "--json")
    assert exported.code == 0, exported.err
    price = json.loads(exported.out)["parity"]["against_fp32"]
    assert price["overlap@10"] > 0.97  # the vectors are the same in every profile
    info = Recommender.load(made / "model.onnx").info
    assert info.profile == "int4"
    assert info.metrics["quantize_aware"]["profile"] == "int4"


def test_a_log_with_the_same_items_may_be_given_and_json_holds_the_figures(
    run, log, before, tmp_path
) -> None:
    more = tmp_path / "more.csv"
    lines = log.read_text().splitlines()
    # Others walk the same way later: what the run has seen is not asked for again.
    rows = [line.replace("u", "v", 1).rsplit(",", 1) for line in lines[1:]]
    again = [f"{row},{int(time) + 10_000}" for row, time in rows]
    more.write_text("\n".join([*lines, *again]) + "\n")
    outcome = run(
        "train", more, "--init-from", before, "--quantize-aware", "int4", "--out",
        tmp_path / "new", "--epochs", 2, "--no-report", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert told["quantize_aware"]["users"] == 30
    made = Run.load(tmp_path / "new")
    assert made.split.interactions.n_users == 60 and made.recipe.repeats
    assert len(made.metrics["epochs"]) <= 2 and "report" not in made.metrics


def test_a_log_of_what_the_run_has_seen_is_refused_before_the_work(
    run, log, before, tmp_path
) -> None:
    less = tmp_path / "less.csv"
    less.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    words = [less, "--init-from", before, "--quantize-aware", "int4"]
    outcome = run("train", *words, "--out", tmp_path / "new")
    assert outcome.code == 2
    assert "nothing is left to measure the new run with" in outcome.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--init-from", "RUN"], "belong together: give both"),
        (["--quantize-aware", "int4"], "belong together: give both"),
        (
            ["--init-from", "RUN", "--quantize-aware", "int2"],
            "'int2' is not known; there is: int4",
        ),
        (
            ["--init-from", "RUN", "--quantize-aware", "int4", "--hidden-dim", "8"],
            "--init-from goes on as its run was trained, so --hidden-dim cannot be given with it",
        ),
        (["--init-from", "nothing", "--quantize-aware", "int4"], "is not a run directory"),
        (["--final", "RUN", "--quantize-aware", "int4"], "--quantize-aware cannot be given"),
    ],
)
def test_what_cannot_be_is_said_before_the_work(run, before, words, message) -> None:
    outcome = run("train", *[before if word == "RUN" else word for word in words])
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert [path.name for path in before.parent.iterdir()] == ["shop"]


def test_a_log_with_other_items_is_refused_with_their_number(run, before, tmp_path) -> None:
    other = tmp_path / "other.csv"
    rows = [f"u{user},9{user % 4},{time}" for user in range(9) for time in range(5)]
    other.write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    words = [other, "--init-from", before, "--quantize-aware", "int4"]
    outcome = run("train", *words, "--out", tmp_path / "new")
    assert outcome.code == 2
    assert "4 new [90, 91, 92], 25 missing ['000', '001', '002']" in outcome.err
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def people(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A users table of the log: every second user has a tag."""
    path = tmp_path_factory.mktemp("people") / "people.csv"
    path.write_text("user_id,plan\n" + "".join(f"u{n},{'gold' * (n % 2)}\n" for n in range(30)))
    return path


@pytest.fixture(scope="module")
def tagged(log: Path, people: Path) -> Path:
    """A run that has read the tags of its users."""
    words = [log, "--users", people, "--tag-cols", "plan", "--out", people.with_name("tagged")]
    words += [
        "--hidden-dim",
        8,
        "--max-len",
        5,
        "--epochs",
        1,
        "--threads",
        1,
        "--no-report",
        "-q",
    ]
    with pytest.raises(SystemExit) as stopped:
        run_command(train, list(map(str, words)))
    assert not stopped.value.code
    return people.with_name("tagged")


def test_a_users_table_of_the_new_log_is_read_for_the_tags_of_the_run(
    run, log, people, tagged, tmp_path
) -> None:
    new = tmp_path / "people.csv"
    new.write_text(people.read_text().replace("gold", "silver"))
    words = ["--init-from", tagged, "--quantize-aware", "int4", "--out", tmp_path / "new"]
    outcome = run("train", log, *words, "--users", new, "--threads", 1, "--no-report")
    assert outcome.code == 0, outcome.err
    assert "15 with tags" in outcome.err
    tags = Run.load(tmp_path / "new").split.interactions.user_tags
    assert tags is not None and set(tags.tolist()) == {(), ("silver",)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--init-from", "TAGGED", "--users", "PEOPLE"], "--users is read only with DATA"),
        (["LOG", "--init-from", "PLAIN", "--users", "PEOPLE"], "no tags of users: leave --users"),
        (
            ["LOG", "--init-from", "PLAIN", "--users", "none.csv"],
            "none.csv: there is no such",
        ),
        (["LOG", "--init-from", "TAGGED"], "columns of the users table; name it with --users"),
        (["LOG", "--init-from", "TAGGED", "--users", "LOG"], "there is no column 'plan'"),
        (
            ["LOG", "--init-from", "TAGGED", "--users", "PEOPLE", "--tag-cols", "plan"],
            "goes on as its run was trained, so --tag-cols cannot be given with it",
        ),
        (["LOG", "--init-from", "NAMELESS", "--items", "PEOPLE"], "attributes: leave --items out"),
    ],
)
def test_tables_that_the_run_cannot_read_are_refused_before_the_work(
    run, log, people, tagged, before, tmp_path, words, message
) -> None:
    nameless = tmp_path / "nameless"
    shutil.copytree(before, nameless)
    facts = (nameless / "data.json").read_text()
    (nameless / "data.json").write_text(facts.replace('"title_col": "title"', '"title_col": ""'))
    places = {"TAGGED": tagged, "PLAIN": before, "PEOPLE": people, "LOG": log}
    places["NAMELESS"] = nameless
    words = [places.get(word, word) for word in words]
    outcome = run("train", *words, "--quantize-aware", "int4", "--out", tmp_path / "new")
    assert outcome.code == 2 and message in outcome.err, outcome.err
    assert not (tmp_path / "new").exists()


def test_a_rounded_run_is_not_made_final(run, before) -> None:
    assert run("train", "--init-from", before, "--quantize-aware", "int4", "-q").code == 0
    outcome = run("train", "--final", before.with_name("shop-int4"))
    assert outcome.code == 2
    assert "make the run that it came from final" in outcome.err
