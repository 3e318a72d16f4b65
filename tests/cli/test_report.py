"""`attnrec-train` writes a report for people, says where it is, and can be told not to."""

import json
from pathlib import Path

from attnrec.runtime import Recommender


def test_the_report_is_written_and_its_path_printed(run, log, tmp_path) -> None:
    outcome = run("train", log, "--model", "popularity", "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert f"report for people: {tmp_path / 'run' / 'report.html'}" in outcome.err
    assert "best traditional model, markov-chain: NDCG@10" in outcome.out
    assert (tmp_path / "run" / "report.html").read_text().startswith("<!doctype html>")


def test_json_stays_one_object_and_names_the_report(run, log, tmp_path) -> None:
    outcome = run("train", log, "--model", "popularity", "--out", tmp_path / "run", "--json")
    result = json.loads(outcome.out)
    assert result["report"] == str(tmp_path / "run" / "report.html")
    assert Path(result["report"]).is_file()


def test_without_a_report_nothing_else_is_fitted_and_the_old_one_goes(run, log, tmp_path) -> None:
    options = ["--model", "popularity", "--out", tmp_path / "run", "--json"]
    assert json.loads(run("train", log, *options).out)["report"] is not None
    assert json.loads(run("train", log, *options, "--no-report").out)["report"] is None
    assert not (tmp_path / "run" / "report.html").exists()
    assert "report" not in json.loads((tmp_path / "run" / "metrics.json").read_text())


def test_the_report_of_a_final_run_has_the_figures_of_the_run_before(
    run, trained, tmp_path
) -> None:
    final = tmp_path / "final"
    outcome = run("train", "--final", trained, "--out", final, "--threads", 1)
    assert f"report for people: {final / 'report.html'}" in outcome.err
    before, after = (json.loads((d / "metrics.json").read_text()) for d in (trained, final))
    assert after["report"] == before["report"]
    page = (final / "report.html").read_text()
    assert "nothing is held out to measure" in page
    # The run before was exported, so test figures of its file are known.
    assert f"reached NDCG@10 {after['test']['ndcg@10']:.4f} on the test events" in page
    outcome = run("train", "--final", trained, "--out", final, "--threads", 1, "--no-report")
    assert outcome.code == 0 and not (final / "report.html").exists()


def test_people_of_the_report_stay_out_of_the_file(trained) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["report"]["examples"]
    stored = Recommender.load(trained / "model.onnx").info.metrics
    assert not {"report", "epochs", "held_out_epochs"} & stored.keys()
