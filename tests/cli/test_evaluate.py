"""`attnrec evaluate`: what it measures of several files, shows and refuses."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from attnrec.cli.console import run_command
from attnrec.cli.export import export
from attnrec.cli.train import train
from attnrec.runtime import Recommender
from attnrec.train import (
    Comparison,
    Run,
    TrainConfig,
    compare,
    evaluate,
    train_final,
)
from attnrec.train.evaluation.metrics import target_ranks, user_gains

MODELS = ("popularity", "personal-frequency")


@pytest.fixture(scope="session")
def baskets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 customers with 1 to 30 visits, who mostly buy their own few of 60 products again."""
    chance = random.Random(0)
    lines = ["user_id,item_id,timestamp"]
    for user in range(40):
        own = [chance.randrange(60) for _ in range(4)]
        for visit in range(1 + user * 29 // 39):
            for _ in range(chance.randrange(1, 5)):
                # The low numbers are popular.
                item = chance.choice(own) if chance.random() < 0.7 else chance.randrange(60) // 4
                lines.append(f"u{user},{item},{1_700_000_000 + 86_400 * visit}")
    path = tmp_path_factory.mktemp("baskets") / "baskets.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def made(data: Path, directory: Path, model: str, *options: str) -> Path:
    """The file of a new run."""
    for command, arguments in (
        (train, [str(data), "--model", model, "--out", str(directory), "-q", *options]),
        (export, [str(directory), "-q"]),
    ):
        with pytest.raises(SystemExit) as stopped:
            run_command(command, arguments)
        assert not stopped.value.code
    return directory / "model.onnx"


@pytest.fixture(scope="session")
def files(baskets: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file of each model, trained to foresee the next basket."""
    folder = tmp_path_factory.mktemp("sessions")
    options = ("--repeats", "--split", "last-session")
    return [made(baskets, folder / model, model, *options) for model in MODELS]


@pytest.fixture(scope="session")
def left_out(baskets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of another recipe, and of the usual split."""
    return made(baskets, tmp_path_factory.mktemp("left out") / "run", "popularity")


@pytest.fixture(scope="session")
def other_baskets(baskets: Path) -> Path:
    """A log that no file has seen: an event is missing."""
    path = baskets.with_name("other.csv")
    path.write_text("".join(baskets.read_text().splitlines(keepends=True)[:-1]))
    return path


@pytest.fixture(scope="session")
def later_baskets(baskets: Path) -> Path:
    """The log 10 days later: 20 customers came again, with 3 products each."""
    path = baskets.with_name("later.csv")
    time = 1_700_000_000 + 86_400 * 40
    rows = [f"u{user},{item},{time}" for user in range(20, 40) for item in (1, 2, user)]
    path.write_text(baskets.read_text() + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def comparison(files: list[Path]) -> Comparison:
    return compare(files)


def ndcg_of_users(file: Path) -> np.ndarray:
    """NDCG@10 of each user, from one batch."""
    held_out = Run.load(file.parent).split.held_out("test")
    lists = Recommender.load(file).recommend_batch(held_out.histories, 50, exclude_seen=False)
    gains = user_gains(target_ranks(lists, held_out), held_out.n_targets())
    return gains["ndcg@10"]


def test_every_file_has_the_figures_that_it_was_exported_with(files, comparison) -> None:
    for file, figures in zip(files, comparison.files, strict=True):
        info = Recommender.load(file).info
        assert figures.metrics.to_json() == info.metrics["test"] == evaluate(file).to_json()
        assert info.metrics["split"] == comparison.split == "last-session"
        assert (figures.path, figures.model, figures.profile) == (str(file), info.model, "fp32")
        assert figures.n_bytes == file.stat().st_size
        assert figures.us_per_user > 0


def test_customers_who_buy_their_own_few_are_foreseen_by_counting_them(comparison) -> None:
    assert comparison.best_first[0].model == "personal-frequency"
    assert "recall@10" in comparison.files[0].metrics.values


def test_the_difference_to_the_best_is_paired_and_drawn_over_the_same_users(
    files, comparison
) -> None:
    other, best = (ndcg_of_users(file) for file in files)
    rng = np.random.default_rng(0)
    n_users = len(best)
    drawn = [rng.integers(0, n_users, n_users) for _ in range(1000)]
    means = [other[users].mean() - best[users].mean() for users in drawn]
    figures = comparison.files[0]
    assert figures.to_best == pytest.approx(other.mean() - best.mean())
    assert figures.to_best_interval == pytest.approx(np.quantile(means, [0.025, 0.975]))
    assert comparison.files[1].to_best == 0


def test_no_worse_ends_with_1_where_the_first_file_is_certainly_behind(run, files) -> None:
    worse, best = files
    outcome = run("evaluate", worse, best, "--no-worse")
    assert outcome.code == 1 and "37 users" in outcome.out  # the table is printed all the same
    assert f"{worse} is certainly worse than {best}, by 0." in outcome.err
    assert run("evaluate", worse, best, "--no-worse", "--json").code == 1
    assert run("evaluate", best, worse, "--no-worse").code == 0
    assert run("evaluate", best, best, "--no-worse").code == 0
    alone = run("evaluate", best, "--no-worse")
    assert alone.code == 2 and "--no-worse" in alone.err and "second FILE" in alone.err


def test_slices_by_length_part_the_users(files, comparison) -> None:
    values = ndcg_of_users(files[0])
    held_out = Run.load(files[0].parent).split.held_out("test")
    lengths = np.array([len(history) for history in held_out.histories])
    slices = comparison.files[0].slices
    bounds = {"1-5": (1, 5), "6-20": (6, 20), "21-50": (21, 50), "51+": (51, 10**9)}
    for name, (low, high) in bounds.items():
        inside = (lengths >= low) & (lengths <= high)
        assert slices[f"history_{name}"]["n_users"] == inside.sum() > 0
        assert slices[f"history_{name}"]["ndcg@10"] == pytest.approx(
            values[inside].mean(), abs=1e-6
        )


def test_slices_by_popularity_have_half_of_the_events_each(files, comparison) -> None:
    split = Run.load(files[0].parent).split
    held_out, counts = split.held_out("test"), split.catalogue.n_events
    n_head = next(n for n in range(len(counts)) if counts[:n].sum() >= counts.sum() / 2)
    head = {*split.catalogue.item_ids[:n_head].tolist()}
    asked = [
        {*held_out.between(i, i + 1).targets.tolist()} for i in range(len(held_out.histories))
    ]
    slices = comparison.files[0].slices
    assert slices["target_head"]["n_users"] == sum(bool(own & head) for own in asked)
    assert slices["target_tail"]["n_users"] == sum(bool(own - head) for own in asked)
    # Popularity shows everybody the same ten of the head.
    assert slices["target_head"]["ndcg@10"] > slices["target_tail"]["ndcg@10"]


def test_the_log_may_be_named_for_files_that_left_their_runs(
    files, baskets, comparison, tmp_path
) -> None:
    copies = [shutil.copy(file, tmp_path / f"{i}.onnx") for i, file in enumerate(files)]
    again = compare(copies, baskets)
    assert again.log_sha256 == comparison.log_sha256
    assert [f.metrics for f in again.files] == [f.metrics for f in comparison.files]


def test_the_table_puts_the_best_first_and_fits_a_narrow_terminal(run, files, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = run("evaluate", *files, "--slices")
    assert outcome.code == 0, outcome.err
    rows = [line.split()[0] for line in outcome.out.splitlines() if line[:1].isalpha()]
    # Where the terminal is narrow, names go on in the next line.
    best = next(name for name in rows if any(m.startswith(name) for m in MODELS))
    assert "personal-frequency".startswith(best)
    for word in ("best", "recall", "coverage", "us/user", "history", "51+", "tail"):
        assert word in outcome.out
    assert "last-session, test" in outcome.out
    lines = outcome.out.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    assert not any("…" in line for line in lines)


def test_json_has_everything_and_keeps_the_order_given(run, files, comparison) -> None:
    result = json.loads(run("evaluate", *files, "--json").out)
    expected = json.loads(json.dumps(comparison.to_json()))
    for model in (*result["models"], *expected["models"]):
        del model["microseconds_per_user"]
    assert result == expected
    one = json.loads(run("evaluate", files[1], "--json").out)
    assert one["ndcg@10"] == expected["models"][1]["ndcg@10"]
    assert one["split"] == "last-session"


def test_a_picture_is_drawn_on_request(run, files, tmp_path) -> None:
    odd = tmp_path / "$not {a formula$"
    odd.mkdir()
    path = odd / "model.onnx"
    for file in files[0].parent.iterdir():
        shutil.copy(file, odd)
    assert run("evaluate", path, files[1], "--plot", tmp_path / "a.png").code == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    for picture in (tmp_path / "missing" / "a.png", tmp_path / "a.txt"):
        outcome = run("evaluate", path, "--plot", picture)
        assert outcome.code == 2 and "name a .png file" in outcome.err


def test_another_split_of_the_log_of_training_is_refused_both_ways(run, files, left_out) -> None:
    splits = ("last-session", "leave-one-out")
    for file, (own, other) in ((files[0], splits), (left_out, splits[::-1])):
        outcome = run("evaluate", file, "--split", other)
        assert outcome.code == 2
        assert f"was trained with --split {own}" in outcome.err
        assert f"attnrec-train --split {other}" in outcome.err


def test_another_log_may_be_split_in_any_way(run, files, other_baskets) -> None:
    arguments = ("--data", other_baskets, "--split", "leave-one-out", "--json")
    result = json.loads(run("evaluate", files[0], *arguments).out)
    assert result["split"] == "leave-one-out"
    assert "recall@10" not in result


def test_files_that_were_trained_differently_share_no_table(
    run, files, left_out, other_baskets
) -> None:
    outcome = run("evaluate", files[0], left_out)
    assert outcome.code == 2
    assert "Compare files that were trained with one --split" in outcome.err
    words = ("--data", other_baskets, "--split", "leave-one-out")
    outcome = run("evaluate", files[0], left_out, *words)
    assert outcome.code == 2
    assert "They read a log differently (repeats): train them alike" in outcome.err


def test_files_of_different_logs_share_no_table_unless_one_is_named(
    run, files, other_baskets, later_baskets, tmp_path
) -> None:
    options = ("--repeats", "--split", "last-session")
    both = (files[0], made(other_baskets, tmp_path / "run", "popularity", *options))
    outcome = run("evaluate", *both)
    assert outcome.code == 2
    assert "Name one log for all with --data" in outcome.err
    outcome = run("evaluate", *both, "--data", later_baskets)
    assert outcome.code == 0
    assert "20 users, last-session" in outcome.out


def test_a_file_beside_the_log_of_another_run_is_not_measured_on_it(
    run, files, left_out, tmp_path
) -> None:
    shutil.copy(left_out.parent / "interactions.parquet", tmp_path)
    shutil.copy(left_out.parent / "items.parquet", tmp_path)
    shutil.copy(files[0], tmp_path)
    outcome = run("evaluate", tmp_path / "model.onnx")
    assert outcome.code == 2
    assert "Name the log with --data" in outcome.err


def test_who_was_left_out_is_said(run, files, later_baskets) -> None:
    outcome = run("evaluate", *files, "--data", later_baskets)
    assert outcome.code == 0, outcome.err
    assert "left out: " in outcome.out and "not after 2023-12-1" in outcome.out
    result = json.loads(run("evaluate", files[0], "--data", later_baskets, "--json").out)
    assert result["n_users"] == 20 and result["n_left_out"] > 10


def test_an_unknown_split_is_refused_in_python_too(files) -> None:
    with pytest.raises(ValueError, match="there are: leave-one-out, last-session"):
        compare(files, split="by time")
    with pytest.raises(ValueError, match="there are: leave-one-out, last-session"):
        TrainConfig(split="by time")


def test_a_final_run_keeps_the_split_of_the_run_before(files, tmp_path) -> None:
    final = train_final(Run.load(files[0].parent), out=tmp_path / "final")
    again = Run.load(tmp_path / "final")
    assert again.split.final and again.config.split == "last-session"
    assert again.metrics["split"] == "last-session"
    assert again.metrics["test"] == Recommender.load(files[0]).info.metrics["test"]
    assert final.split.sequences.offsets[-1] == final.split.interactions.n_events


def test_a_run_is_evaluated_in_folds_beside_the_figures_of_its_own_file(
    run, left_out: Path, tmp_path: Path
) -> None:
    shutil.copytree(left_out.parent, tmp_path / "run")
    own = evaluate(left_out).values
    asked = ("evaluate", tmp_path / "run", "--folds", "3", "--test-days", "4")
    outcome = run(*asked, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert [model["model"] for model in found["models"]] == ["popularity"]
    assert len(found["folds"]) == 3
    assert found["run"]["split"] == "leave-one-out"
    assert found["run"]["ndcg@10"] == pytest.approx(own["ndcg@10"], abs=1e-6)
    shown = run(*asked, "--resume").out
    assert f"the file of the run, leave-one-out: NDCG@10 {own['ndcg@10']:.4f}" in shown
    assert f"{found['models'][0]['ndcg@10']:.4f}" in shown


def test_folds_of_a_model_of_ones_own_train_that_model(
    run, tmp_path: Path, baskets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("liked.py").write_text(
        "from attnrec.train.models.popularity import Popularity, PopularityConfig\n\n\n"
        "class Liked(Popularity):\n    config: PopularityConfig\n"
    )
    made(baskets, tmp_path / "run", "liked:Liked")
    outcome = run("evaluate", "run", "--folds", "2", "--test-days", "4", "--json")
    assert outcome.code == 0, outcome.err
    (model,) = json.loads(outcome.out)["models"]
    assert model["model"] == "liked:Liked"
    assert len(model["ndcg@10_folds"]) == 2
