"""`attnrec tune`: what it prints and refuses; its run is one like any other."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnrec.cli.progress import SearchProgress

OPTIONS = ["--model", "attention-pool", "--hidden-dim", "16", "--max-len", "10", "--epochs", "3"]
QUICK = [*OPTIONS, "--threads", "1", "--no-report"]


NO_TIME = ["--minutes", "0.00001", "--resume"]  # what was found until now becomes the run


@pytest.fixture
def ctrl_c_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Somebody watches the progress and presses Ctrl-C when so many trials are over."""
    on_trial = SearchProgress.on_trial

    def set_number(number: int) -> None:
        def watched(self: SearchProgress, trial: Any, best: Any) -> None:
            on_trial(self, trial, best)
            if trial.number + 1 == number:
                raise KeyboardInterrupt

        monkeypatch.setattr(SearchProgress, "on_trial", watched)

    return set_number


def test_a_search_becomes_a_run_that_is_exported_like_any(
    log: Path, run, tmp_path: Path, ctrl_c_after
) -> None:
    ctrl_c_after(8)
    out = tmp_path / "run"
    command = ["tune", log, *OPTIONS, "--threads", "1", "--out", out]
    outcome = run(*command, "--minutes", "60")
    assert outcome.code == 130 and not out.exists()
    assert len(re.findall(r"trial +\d+  validation NDCG@10", outcome.err)) == 8
    assert "the search is kept up to trial 7" in outcome.err and "--resume" in outcome.err

    outcome = run(*command, "--minutes", "60")
    assert outcome.code == 2 and "go on with attnrec tune and --resume" in outcome.err

    outcome = run(*command, *NO_TIME)
    assert outcome.code == 0, outcome.err
    table = outcome.out.splitlines()
    assert table[0].split()[:3] == ["trial", "NDCG@10", "minutes"]
    assert "the recipe" in outcome.out and "8 trials in" in outcome.out
    assert "The search for settings" in (out / "report.html").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]

    outcome = run("export", out, "-q")
    assert outcome.code == 0, outcome.err
    outcome = run("evaluate", out / "model.onnx", "--json", "-q")
    assert outcome.code == 0 and json.loads(outcome.out)["ndcg@10"] > 0


def test_json_holds_every_trial(log: Path, run, tmp_path: Path, ctrl_c_after) -> None:
    out = tmp_path / "run"
    for number in (3, 7):  # the second time it goes on
        ctrl_c_after(number)
        resume = [] if number == 3 else ["--resume"]
        assert run("tune", log, *QUICK, "--minutes", "60", "--out", out, *resume).code == 130
    outcome = run("tune", log, *QUICK, *NO_TIME, "--out", out, "--json", "-q")
    assert outcome.code == 0 and outcome.err == ""
    result = json.loads(outcome.out)
    assert result["tuning"] == json.loads((out / "metrics.json").read_text())["tuning"]
    assert [trial["number"] for trial in result["tuning"]["trials"]] == list(range(7))
    fields = {"number", "values", "ndcg@10", "seconds", "after", "outcome", "curve", "reason"}
    assert all(trial.keys() == fields for trial in result["tuning"]["trials"])
    assert result["ndcg@10"] == result["tuning"]["trials"][result["tuning"]["best"]]["ndcg@10"]
    assert not {"hidden_dim", "max_len"} & result["tuning"]["recipe"].keys()


def test_a_time_too_short_is_told(log: Path, run, tmp_path: Path, ctrl_c_after) -> None:
    words = ["tune", log, *QUICK, "--out", tmp_path / "run"]
    outcome = run(*words, "--minutes", "0.00001")
    assert outcome.code == 0, outcome.err
    assert "too few for the recipe, which was cut short" in outcome.out
    assert "out of time after 1 epoch" in outcome.err
    ctrl_c_after(1)
    assert run(*words, "--minutes", "60").code == 130
    outcome = run(*words, *NO_TIME)
    assert outcome.code == 0, outcome.err
    assert "too few for more than the recipe; give --minutes more" in outcome.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "popularity", "--minutes", "1"), "model popularity has no training to tune"),
        (("--minutes", "0"), "--minutes must be a number above 0, not 0.0"),
        (("--minutes", "nan"), "--minutes must be a number above 0, not nan"),
        (("--minutes", "much"), "Invalid value for '--minutes'"),
        (("--set", "speed=2", "--minutes", "1"), "model fusion has no setting --set speed"),
    ],
)
def test_what_cannot_be_is_refused_before_the_log_is_read(
    options: tuple[str, ...], message: str, run, tmp_path: Path
) -> None:
    outcome = run("tune", *options, "--out", tmp_path / "run")
    assert outcome.code == 2 and message in " ".join(outcome.err.split()), outcome.err
    assert "Traceback" not in outcome.err and not list(tmp_path.iterdir())
