"""The commands as a person and a script use them."""

import importlib.util
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from attnrec.cli.results import print_run
from attnrec.runtime import Recommender
from attnrec.train import Run

pytestmark = pytest.mark.usefixtures("equal_weights_are_traced_once")


def console_script(name: str) -> str:
    """The installed command."""
    return str(Path(sys.executable).with_name(name))


def test_bare_commands_work_in_sequence_in_an_empty_folder(
    run, log, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("train", log, "--model", "markov-chain").code == 0
    assert run("export").code == 0
    evaluated = json.loads(run("evaluate", "--json").out)
    answered = json.loads(run("recommend", "--history", "001,002", "--json").out)
    assert evaluated["n_users"] == 30
    assert evaluated["ndcg@10"] > 0.3  # they walk along a ring: the next place is no secret
    assert "003" in answered["item_ids"][:3]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["attnrec-run"]


def test_train_prints_what_it_read_unless_it_shall_be_quiet(run, log, tmp_path) -> None:
    words = ("train", log, "--model", "popularity", "--out", tmp_path / "run")
    outcome = run(*words)
    assert "repeats" in outcome.err and "guessed" in outcome.err  # the time unit
    quiet = run(*words, "-q")
    assert quiet.err == "" and quiet.out == outcome.out and "NDCG@10" in quiet.out
    assert "missing.csv" in run("train", "missing.csv", "-q").err


def test_a_validation_of_a_sample_is_called_one(trained, capsys) -> None:
    run = Run.load(trained)
    print_run(run)
    assert "sample" not in capsys.readouterr().out
    valid = {**run.metrics.valid, "sample_of": 5000}
    print_run(replace(run, metrics=replace(run.metrics, valid=valid)))
    assert "users, a sample of 5,000)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--set", "n_blocks=1"], {"n_blocks": 1}),
        (
            ["--model", "attention-pool", "--set", "attention=dot", "--set", "query=learned"],
            {"attention": "dot", "query": "learned"},
        ),
        (
            ["--model", "markov-chain", "--set", "history_decay=none", "--set", "window=4"],
            {"window": 4},  # validation chose the decay
        ),
    ],
)
def test_any_setting_can_be_given(run, log, tmp_path, options, expected) -> None:
    small = [] if "markov-chain" in options else ["--hidden-dim", 8, "--epochs", 1]
    outcome = run("train", log, *options, *small, "--threads", 1, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert expected.items() <= vars(Run.load(tmp_path / "run").model.config).items()


def test_final_trains_on_every_event_and_keeps_held_out_figures(run, trained, tmp_path) -> None:
    final = tmp_path / "final"
    trained_json = json.loads(
        run("train", "--final", trained, "--out", final, "--threads", 1, "--json").out
    )
    whose = "the same recipe before the held-out events were added to the training"
    assert (trained_json["final"], trained_json["of"]) == (True, whose)
    outcome = run("export", final, "--json")
    before = json.loads((trained / "metrics.json").read_text())
    result = json.loads(outcome.out)
    assert result["metrics"]["valid"] == before["valid"]
    assert result["metrics"]["of"] == whose
    assert Recommender.load(final / "model.onnx").info.final
    printed = run("export", final).out
    assert re.search(rf"test +NDCG@10 [\d.]+, HitRate@10 [\d.]+; of {whose}\n", printed)
    refused = run("evaluate", final / "model.onnx")
    assert refused.code == 2
    assert "trained on every event" in refused.err


def test_export_tells_parity_test_figures_and_a_command_that_answers(
    run, trained, tmp_path
) -> None:
    outcome = run("export", trained, "--out", tmp_path / "m.onnx")
    assert "100.00% of 30 users with the identical top 10" in outcome.out
    if sys.platform == "linux":
        assert re.search(r"memory +\d+ MB when served, \d+ MB while reloading\n", outcome.out)
    command = shlex.split(outcome.err.rpartition("Next: attnrec-recommend ")[2])
    assert json.loads(run("recommend", *command, "--json").out)["n_known"] == 2
    result = json.loads(run("export", trained, "--out", tmp_path / "m.onnx", "--json").out)
    assert result["parity"]["identical_top_10"] == 1.0
    assert result["bytes"] == (tmp_path / "m.onnx").stat().st_size
    assert result["metrics"]["test"]["n_users"] == 30
    if sys.platform == "linux":
        assert 20 < result["memory_mb"]["served"] <= result["memory_mb"]["reloading"] < 200


def test_without_the_server_the_memory_is_not_measured(
    run, trained, tmp_path, monkeypatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "uvicorn" else find_spec(name)
    )
    outcome = run("export", trained, "--out", tmp_path / "m.onnx")
    assert "memory   not measured without the server: pip install 'attnrec[serve]'" in outcome.out


def test_a_profile_after_quantize_is_understood_as_in_older_scripts(
    run, trained, tmp_path
) -> None:
    loose = ("--min-overlap", 0.1, "--max-ndcg-loss", 1, "--out", tmp_path / "m.onnx")
    outcome = run("export", trained, "--quantize", "auto", *loose, "--json")
    assert json.loads(outcome.out)["profile"] == "int4"
    assert "--quantize auto is now --profile auto" in outcome.err
    outcome = run("export", "--quantize", "int4")
    assert outcome.code == 2 and "write --profile int4" in outcome.err
    outcome = run("export", trained, "int4")
    assert outcome.code == 2 and "'int4' is one argument too many" in outcome.err


def test_an_unknown_profile_is_refused_with_those_that_exist(run, trained, tmp_path) -> None:
    outcome = run("export", trained, "--profile", "int7", "--out", tmp_path / "m.onnx")
    assert outcome.code == 2
    assert "'int7'" in outcome.err
    assert "fp32" in outcome.err
    assert not (tmp_path / "m.onnx").exists()


def test_quantize_is_profile_int8_whose_cost_is_printed_and_kept(run, trained, tmp_path) -> None:
    # The fixture has 25 items: ten of them are no top 10 of a shop.
    loose = ("--min-overlap", 0.5, "--max-ndcg-loss", 1, "--out", tmp_path / "m.onnx")
    outcome = run("export", "--quantize", trained, *loose)
    assert outcome.code == 0, outcome.err
    assert all(name in outcome.out for name in ("to fp32", "overlap", "NDCG@10"))
    assert any(row.startswith("int8") for row in outcome.out.splitlines())
    for words in (["--quantize", "--profile", "int8"], ["--profile", "int8"]):
        result = json.loads(run("export", trained, *words, *loose, "--json").out)
        assert result["profile"] == "int8"
        assert result["parity"]["against_fp32"]["users"] == 30
        assert [cost["profile"] for cost in result["profiles"]] == ["fp32", "int8"]
    outcome = run("export", trained, "--quantize", "--profile", "auto")
    assert outcome.code == 2 and "with --profile auto leave it out" in outcome.err


def test_auto_takes_the_smallest_within_limits_that_may_be_percentages(
    run, trained, tmp_path
) -> None:
    file = tmp_path / "m.onnx"
    loose = ("--min-overlap", "10%", "--max-ndcg-loss", "100%", "--out", file, "--json")
    outcome = run("export", trained, "--profile", "auto", *loose)
    assert json.loads(outcome.out)["profile"] == "int4", outcome.err
    outcome = run("export", trained, "--profile", "auto", *loose, "--max-mb", 0.0001)
    assert outcome.code == 1 and "above the limit 0.0001" in outcome.err
    assert "--max-mb" in outcome.err and file.exists()
    assert "take --profile fp32" not in outcome.err  # fp32 passes the limit as well
    outcome = run("export", trained, "--profile", "int3")
    assert outcome.code == 2 and "fp32, int8, int4+4, int4, and auto" in outcome.err
    for more in ([], ["--quantize"]):
        outcome = run("export", trained, *more, "--out", tmp_path / "none" / "m.onnx")
        assert outcome.code == 2 and "none is no folder" in outcome.err
    outcome = run("export", trained, "--max-ndcg-loss", "little")
    assert outcome.code == 2 and "'little' is neither a share nor a percentage" in outcome.err


def test_a_cost_above_a_limit_ends_with_1_and_says_how_to_allow_it(run, log, tmp_path) -> None:
    # Without counts, whose order no rounding changes.
    small = ["--model", "sasrec", "--hidden-dim", 16, "--max-len", 10, "--epochs", 2]
    small += ["--seed", 1, "--repeats", "--threads", 1, "--no-report"]
    run("train", log, *small, "--out", tmp_path / "run")
    outcome = run(
        "export", tmp_path / "run", "--profile", "int4", "--min-overlap", 1,
        "--out", tmp_path / "m.onnx",
    )  # fmt: skip
    assert outcome.code == 1
    assert "below the limit 1" in outcome.err and "--min-overlap" in outcome.err
    assert "or take --profile fp32" in outcome.err
    assert not (tmp_path / "m.onnx").exists()


def test_evaluating_other_data_reads_it_as_in_training(run, trained, log, tmp_path) -> None:
    copy = tmp_path / "model.onnx"
    shutil.copy(trained / "model.onnx", copy)
    own = json.loads(run("evaluate", trained / "model.onnx", "--json").out)
    same = json.loads(run("evaluate", copy, "--data", log, "--json").out)
    assert own.pop("file") != same.pop("file")
    del own["microseconds_per_user"], same["microseconds_per_user"]
    assert own == same


def test_other_data_may_hold_those_text_ids_alone_that_look_like_numbers(run, tmp_path) -> None:
    for name, ids in (("log", ["7", "8", "9", "x9"]), ("other", ["7", "8", "9"])):
        start = 1_700_000_000 + 100 * (name == "other")
        rows = [f"{user},{item},{start + i}" for user in range(9) for i, item in enumerate(ids)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    arguments = ["--model", "popularity", "--out", tmp_path / "run"]
    assert run("train", tmp_path / "log.csv", *arguments).code == 0
    assert run("export", tmp_path / "run").code == 0
    file = tmp_path / "run" / "model.onnx"
    outcome = run("evaluate", file, "--data", tmp_path / "other.csv", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["n_users"] == 9
    assert json.loads(outcome.out)["missing_targets"] == 1.0  # 9 was held back in training


def test_the_file_away_from_its_run_wants_data(run, trained, tmp_path) -> None:
    shutil.copy(trained / "model.onnx", tmp_path)
    outcome = run("evaluate", tmp_path / "model.onnx")
    assert outcome.code == 2
    assert "--data" in outcome.err


def test_validation_figures_of_the_file_are_those_of_training(run, trained) -> None:
    trained_valid = json.loads((trained / "metrics.json").read_text())["valid"]
    result = json.loads(run("evaluate", trained / "model.onnx", "--part", "valid", "--json").out)
    for name in ("ndcg@10", "hit_rate@10", "n_users"):
        assert result[name] == pytest.approx(trained_valid[name])


def test_recommend_shows_titles_as_they_are(run, trained) -> None:
    outcome = run("recommend", trained / "model.onnx", "--history", "001,002", "-k", 3)
    assert "[bold]" in outcome.out  # a title is not markup
    assert len(outcome.out.splitlines()) == 4


def test_an_empty_history_is_answered_and_said_to_be_empty(run, trained) -> None:
    outcome = run("recommend", trained / "model.onnx", "--history", "")
    assert outcome.code == 0
    assert "the answer to an empty history" in outcome.err


def test_json_lines_are_answered_one_by_one_past_a_bad_one(run, trained, monkeypatch) -> None:
    lines = ['{"history": ["001"], "k": 2}', "nonsense", '{"history": [1]}', '{"k": 1}', ""]
    lines += ['{"history": [], "colour": 1}', '{"history": [], "k": 0}', '{"history": [], "k": 1}']
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    outcome = run("recommend", trained / "model.onnx")
    answers = [json.loads(line) for line in outcome.out.splitlines()]
    assert [answer.get("line") for answer in answers] == [None, 2, 3, 4, 6, 7, None]
    assert len(answers[0]["item_ids"]) == 2
    assert "write it as '1'" in answers[2]["error"]
    assert "colour" in answers[4]["error"]
    assert outcome.code == 2
    assert "5 of 7 lines" in outcome.err


def test_a_line_that_is_too_deep_for_a_parser_is_a_bad_line(run, trained, monkeypatch) -> None:
    lines = ["[" * 100_000, '{"history": [], "exclude_seen": "false"}', '{"history": []}']
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    answers = [
        json.loads(line) for line in run("recommend", trained / "model.onnx").out.splitlines()
    ]
    assert "not JSON" in answers[0]["error"] and "exclude_seen" in answers[1]["error"]
    assert len(answers[2]["item_ids"]) == 10


def test_a_reader_that_leaves_early_is_no_error_message(trained) -> None:
    line = '{"history": ["001"]}\n'
    pipe = subprocess.Popen(
        [console_script("attnrec-recommend"), trained / "model.onnx"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert pipe.stdin and pipe.stdout and pipe.stderr
    pipe.stdin.write(line)
    pipe.stdin.flush()
    pipe.stdout.readline()
    pipe.stdout.close()
    pipe.stdin.write(line * 2000)
    pipe.stdin.close()
    assert pipe.stderr.read() == ""
    pipe.stderr.close()
    pipe.wait(timeout=30)


def test_final_keeps_what_validation_chose_and_the_test_figures(run, log, tmp_path) -> None:
    before, final = tmp_path / "run", tmp_path / "final"
    run("train", log, "--model", "markov-chain", "--out", before)
    run("export", before)
    run("train", "--final", before, "--out", final)
    run("export", final)
    infos = [Recommender.load(folder / "model.onnx").info for folder in (before, final)]
    assert infos[0].config["history_decay"] == infos[1].config["history_decay"]
    assert infos[0].metrics["test"] == infos[1].metrics["test"]
    assert "before the held-out events" in infos[1].metrics["of"]


def test_replacing_a_run_is_announced(run, log, tmp_path) -> None:
    run("train", log, "--model", "popularity", "--out", tmp_path / "run")
    outcome = run("train", log, "--model", "popularity", "--out", tmp_path / "run")
    assert "replaces" in outcome.err


def test_final_of_the_current_directory_lands_beside_it(run, trained, monkeypatch) -> None:
    monkeypatch.chdir(trained)
    outcome = run("train", "--final", ".", "--threads", 1, "--resume")
    assert outcome.code == 0 and "nothing to resume" in outcome.err
    assert Run.load(trained.with_name("run-final")).split.final


def test_messages_are_not_broken_and_paths_are_taken_literally(run, log, tmp_path) -> None:
    target = tmp_path / ("[bold]" + "long" * 30)
    outcome = run("train", log, "--model", "popularity", "--out", target, "--resume")
    assert f"{target}.unfinished: nothing to resume" in outcome.err
    command = f"attnrec-export {shlex.quote(str(target))}"
    assert f"run written to {target}. Next: {command}\n" in outcome.err


# --- the report


def test_the_report_is_written_and_its_path_printed(run, log, tmp_path) -> None:
    outcome = run("train", log, "--model", "popularity", "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert f"report: {tmp_path / 'run' / 'report.html'}" in outcome.err
    assert "best baseline, markov-chain: NDCG@10" in outcome.out
    assert (tmp_path / "run" / "report.html").read_text().startswith("<!doctype html>")


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
    assert f"report: {final / 'report.html'}" in outcome.err
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
