"""Each way to call `attnrec-train` declares the options that it reads; others are refused."""

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer

from attnrec.cli.modes import EVERYWHERE
from attnrec.cli.train import train
from attnrec.cli.train_modes import MODES, check, target_of
from attnrec.cli.train_runs import RUNS
from attnrec.train.models import COMPARED_MODELS

SMALL = {"hidden_dim": 16, "max_len": 5, "epochs": 1, "threads": 1, "n_blocks": 1}
WAYS: dict[str, dict[str, Any]] = {
    "new": {"model": "sasrec", **SMALL},
    "tune": {"model": "sasrec", **SMALL, "tune": 0.2},
    "all": {"model": "all", "threads": 1},
    "final": {},
}
DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(train).parameters.items()
    if name != "context"
}


class Recording(dict[str, Any]):
    """What was given, and which of it was asked for."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)


@pytest.fixture
def before(trained: Path, tmp_path: Path) -> Path:
    """A run of its own, of another seed than the default."""
    made = tmp_path / "before"
    shutil.copytree(trained, made, ignore=shutil.ignore_patterns("model.onnx"))
    config = json.loads((made / "config.json").read_text())
    config["train"]["seed"] = 5
    (made / "config.json").write_text(json.dumps(config))
    return made


@pytest.mark.parametrize("mode", MODES)
def test_what_is_declared_is_what_is_read(
    mode: str, log: Path, before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in {*COMPARED_MODELS} - {"popularity"} if mode == "all" else ():
        monkeypatch.delitem(COMPARED_MODELS, name)
    run = {"final": before} if mode == "final" else {"data": log}
    values = {**DEFAULTS, **WAYS[mode], **run, "run_directory": tmp_path / "made", "quiet": True}
    given = Recording({name: values[name] for name in MODES[mode].reads})
    check(mode, given)
    RUNS[mode](given, target_of(mode, given))
    unread = MODES[mode].reads - given.read - EVERYWHERE
    assert unread == set()
    assert target_of(mode, given).is_dir()


def every_option() -> dict[str, list[str]]:
    """Each option as somebody would give it, by the name of its parameter."""
    app = typer.Typer(add_completion=False)
    app.command()(train)
    words = {}
    for parameter in typer.main.get_command(app).params:
        if parameter.param_type_name == "option" and parameter.name not in EVERYWHERE:
            written = parameter.opts[0]
            values = {"--split": "last-session", "--id-type": "string", "--time-unit": "s"}
            value = [] if parameter.is_flag else [values.get(written, "1")]
            words[str(parameter.name)] = [written, *value]
    return words


@pytest.mark.parametrize("mode", ["all", "final"])
def test_every_option_that_is_not_read_is_refused_by_its_name(
    mode: str, log: Path, before: Path, run
) -> None:
    call = [log, "--model", "all"] if mode == "all" else ["--final", before]
    n_refused = 0
    for name, words in every_option().items():
        if name in MODES[mode].reads | {"final"}:
            continue
        outcome = run("train", *call, *words)
        assert outcome.code == 2, words
        assert f"{words[0]} cannot be given with it" in outcome.err, words
        n_refused += 1
    assert n_refused >= 6
    option = "--no-report" if mode == "all" else "--repeats"
    assert f"{option} cannot be given with it" in run("train", *call, option).err


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["--event-col", "kind"], "--events or --event-weights"),
        (["--rating-col", "stars"], "--min-rating"),
        (["--title-col", "name"], "--items"),
        (["--allow-users"], "--model all"),
    ],
)
def test_an_option_that_changes_nothing_alone_says_what_it_is_read_with(
    words: list[str], needed: str, log: Path, run
) -> None:
    outcome = run("train", log, *words)
    assert outcome.code == 2
    assert f"{words[0]} is read only with {needed}" in outcome.err
