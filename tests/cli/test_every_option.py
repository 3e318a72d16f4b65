"""Every option of a command, in every way to call it, changes the result or is refused."""

import io
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from attnrec.cli.bench.command import bench
from attnrec.cli.compare import compare
from attnrec.cli.console import EVERYWHERE, run_command
from attnrec.cli.evaluate import evaluate
from attnrec.cli.export import export
from attnrec.cli.options import Shared, TrainingOptions, with_training_options
from attnrec.cli.recommend.command import recommend
from attnrec.cli.train import train
from attnrec.cli.tune import tune
from attnrec.runtime import Recommender
from attnrec.train import Run

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"
STRING, USERS, TIMES, RULES = (
    FORMAT_1 / f"tiny-{name}.onnx" for name in ("string", "users", "times", "rules")
)


def options_of(command: Callable[..., None]) -> set[str]:
    """As they are declared, "--exclude"; but for those that say how a command prints."""
    app = typer.Typer(add_completion=False)
    app.command()(command)
    return {
        parameter.opts[0]
        for parameter in typer.main.get_command(app).params
        if parameter.param_type_name == "option" and parameter.name not in EVERYWHERE
    }


def refused(outcome: Any, option: str) -> bool:
    """By its name, without a result."""
    return outcome.code == 2 and option in outcome.err and not outcome.out


LINES = '{"history": ["sku-1"]}\n{"history": []}\n'
# How it is asked, and what stands on standard input.
ASKED: dict[str, tuple[list[str], str]] = {
    "history": (["--history", "sku-1,sku-2"], ""),
    "lines": ([], LINES),
    "similar": (["--similar", "sku-1"], ""),
}
# For each option a file that can read it, and words that have to change the answer.
ASKING: dict[str, tuple[Path, list[str]]] = {
    "--history": (STRING, ["--history", "sku-3"]),
    "-k": (STRING, ["-k", "3"]),
    "--exclude": (STRING, ["--exclude", "null,sku-4"]),
    "--candidates": (STRING, ["--candidates", "sku-1,sku-2,sku-9"]),
    "--user": (USERS, ["--user", "3"]),
    "--user-tags": (USERS, ["--user-tags", "gold"]),
    "--timestamps": (TIMES, ["--timestamps", "1,900000", "--request-time", "1000000"]),
    "--request-time": (TIMES, ["--request-time", "5000000"]),
    "--require-all": (RULES, ["--require-all", "kind:mug"]),
    "--require-any": (RULES, ["--require-any", "kind:mug"]),
    "--forbid": (RULES, ["--forbid", "kind:mug"]),
    "--boost": (RULES, ["--boost", "kind:mug=1"]),
    "--at-least": (RULES, ["--at-least", "price=2"]),
    "--at-most": (RULES, ["--at-most", "price=2"]),
    "--diversity": (RULES, ["--diversity", "0.5"]),
    "--max-per": (RULES, ["--max-per", "kind=1"]),
    "--min-per": (RULES, ["--min-per", "colour:green=3"]),
    "--why": (STRING, ["--why"]),
    "--similar": (STRING, ["--similar", "sku-2"]),
    # What these change, and what goes with them: test_recommend_batch.
    "--batch": (STRING, ["--batch", str(FORMAT_1)]),
    "--out": (STRING, ["--out", "answers.parquet"]),
    "--processes": (STRING, ["--processes", "2"]),
}
# These choose the way itself; lines on standard input are what is left without them.
CHOOSING = {("--history", "lines"), ("--similar", "lines")}


@pytest.mark.parametrize("way", ASKED)
def test_recommend_reads_or_refuses_every_option(
    way: str, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ASKING.keys() == options_of(recommend)

    def ask(file: Path, *words: str) -> Any:
        call, text = ASKED[way]
        if file == TIMES and way == "history":
            call = [*call, "--timestamps", "999000,999900", "--request-time", "1000000"]
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdin", io.StringIO(text))
            return run("recommend", file, *call, *words)

    for option, (file, words) in ASKING.items():
        if (option, way) not in CHOOSING:
            asked = ask(file, *words)
            if not refused(asked, option):
                assert asked.code == 0, (option, asked.err)
                assert asked.out != ask(file).out, option


EXPORTED: dict[str, list[str]] = {
    "fp32": [],
    "int4": ["--profile", "int4", "--min-overlap", "1%", "--max-ndcg-loss", "99%"],
}
EXPORTING: dict[str, list[str]] = {
    "--out": ["--out", "FOLDER/other.onnx"],
    "--profile": ["--profile", "int8"],
    "--quantize": ["--quantize"],
    "--min-overlap": ["--min-overlap", "100%"],
    "--max-ndcg-loss": ["--max-ndcg-loss", "2"],  # no share; test_profiles has what it refuses
    "--max-mb": ["--max-mb", "0.001"],
    "--allow-users": ["--allow-users"],
    "--kit": ["--kit", "FOLDER/kit"],
    "--catalog": ["--catalog", "FOLDER/catalog.csv"],
    "--recent": ["--recent", "FOLDER/recent.csv"],
    "--allow-smaller": ["--allow-smaller"],
    # This run has no tags and numbers; test_rules has what these make of others.
    "--tags": ["--tags", "brand"],
    "--numbers": ["--numbers", "price"],
}


@pytest.mark.parametrize("way", EXPORTED)
@pytest.mark.usefixtures("equal_weights_are_traced_once")
def test_export_reads_or_refuses_every_option(way: str, trained: Path, run, tmp_path) -> None:
    assert EXPORTING.keys() == options_of(export)

    def came_of(name: str, words: list[str]) -> tuple[Any, Any]:
        """The exit code, profile and size of the file, what else was written; and the outcome."""
        folder = tmp_path / name.strip("-")
        shutil.copytree(trained, folder / "run", ignore=shutil.ignore_patterns("model.onnx"))
        words = [word.replace("FOLDER", str(folder)) for word in words]
        fewer = Run.load(trained).split.catalogue.item_ids[1:].tolist()
        (folder / "catalog.csv").write_text("\n".join(["item_id", *map(str, fewer)]))
        newer = "user_id,item_id,timestamp\nu1,003,1800000000\n"
        (folder / "recent.csv").write_text(newer)
        outcome = run("export", folder / "run", *EXPORTED[way], *words)
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        infos = [Recommender.load(path).info for path in folder.rglob("*.onnx")]
        made = {(info.profile, info.n_items) for info in infos}
        return (outcome.code, made, files), outcome

    plain, _ = came_of("plain", [])
    assert came_of("again", [])[0] == plain
    for option, words in EXPORTING.items():
        exported, outcome = came_of(option, words)
        if not refused(outcome, option):
            assert exported != plain or f"{option}: not used" in outcome.err, option


EVALUATED = {"own": [], "log": ["--data", "LOG"]}
EVALUATING = {
    "--data": ["--data", "LOG"],
    "--split": ["--split", "last-session"],
    "--part": ["--part", "valid"],
    "--slices": ["--slices"],
    "--diversity": ["--diversity", "0.5"],
    "--plot": ["--plot", "FOLDER/figures.png"],
    "--folds": [
        "--folds",
        "2",
        "--test-days",
        "0.0001",
    ],
    "--test-days": ["--test-days", "9"],
    "--resume": ["--resume"],
    "--no-worse": ["--no-worse"],
}


@pytest.mark.parametrize("way", EVALUATED)
def test_evaluate_reads_or_refuses_every_option(
    way: str, trained: Path, log: Path, run, tmp_path: Path
) -> None:
    assert EVALUATING.keys() == options_of(evaluate)
    longer = tmp_path / "longer.csv"  # next month's
    later = [f"u{i},{i:03},{1_800_000_000 + 86_400 * i + j}" for i in range(20) for j in range(3)]
    longer.write_text(log.read_text() + "\n".join(later) + "\n")

    def ask(words: list[str]) -> Any:
        places = {"LOG": str(longer), "FOLDER/figures.png": str(tmp_path / "figures.png")}
        return run("evaluate", trained, *(places.get(w, w) for w in [*EVALUATED[way], *words]))

    plain = without_times(ask([]))
    assert without_times(ask([])) == plain
    for option, words in EVALUATING.items():
        if option.strip("-") == {"own": "", "log": "data"}[way]:
            continue
        outcome = ask(words)
        if not refused(outcome, option):
            assert outcome.code == 0, (option, outcome.err)
            drawn = option == "--plot" and (tmp_path / "figures.png").exists()
            assert drawn or without_times(outcome) != plain, option


def without_times(outcome: Any) -> list[list[str]]:
    """The table without its last column, the microseconds a user."""
    return [line.split()[:-1] for line in outcome.out.splitlines()]


@pytest.mark.parametrize("way", ["files", "against"])
def test_bench_reads_every_option(way: str, trained: Path, run) -> None:
    assert options_of(bench) == {"--against", "--seconds"}
    call = [trained / "model.onnx", *(["--against", trained] if way == "against" else [])]

    def seconds(*words: object) -> float:
        started = time.perf_counter()
        outcome = run("bench", *call, "--json", *words)
        assert outcome.code == 0, outcome.err
        n_timed = len(json.loads(outcome.out)["timings"])
        assert n_timed == (2 if way == "against" else 1)
        return time.perf_counter() - started

    short = seconds("--seconds", "0.1")
    assert seconds("--seconds", "8") > short + 2


CUT = ("--test-days", "--test-from", "--test-share", "--valid-days", "--targets", "--ask-at")
AGAIN = {"--epochs", "--max-minutes", "--seed", "--threads", "--precision", "--split", *CUT}
ALWAYS = {"--out", "--resume", "--report", "--items", "--users"}
# What may be given beside the run that another one follows.
FOLLOWING = {"--final": {"--threads"}, "--like": AGAIN, "--init-from": AGAIN}


def test_the_training_commands_differ_in_what_they_do_with_a_log() -> None:
    shared = {"--out", "--resume"}
    of_log = options_of(shared_options(one_model=False, found=[]))
    of_model = {"--model", "--max-len", "--hidden-dim", "--n-blocks", "--set"}
    assert options_of(train) == shared | of_log | of_model | {*FOLLOWING, "--report"}
    assert options_of(tune) == shared | of_log | of_model | {"--minutes", "--report"}
    assert options_of(compare) == shared | of_log | {"--allow-users", "--folds"}


def shared_options(*, one_model: bool, found: list[TrainingOptions]) -> Callable[..., None]:
    """A command that has no options but the shared ones, and keeps what they come to."""

    @with_training_options(one_model=one_model)
    def command(context: typer.Context, shared: Shared) -> None:
        found.append(shared())

    return command


# How an option is given, where that is not "--option 1".
GIVEN: dict[str, list[str]] = {
    "--precision": ["--precision", "bfloat16"],
    "--model": ["--model", "sasrec"],
    "--set": ["--set", "dropout=0.1"],
    "--hidden-dim": ["--hidden-dim", "16"],
    "--seed": ["--seed", "5"],
    "--split": ["--split", "last-session"],
    "--test-from": ["--test-from", "2024-01-01"],
    "--test-share": ["--test-share", "0.1"],
    "--targets": ["--targets", "first"],
    "--ask-at": ["--ask-at", "cut"],
    "--id-type": ["--id-type", "string"],
    "--time-unit": ["--time-unit", "s"],
    "--repeats": ["--repeats"],
    "--resume": ["--resume"],
    "--report": ["--report"],
    "--items": ["--items", "TABLE"],
    "--users": ["--users", "TABLE", "--tag-cols", "kind"],
    "--tag-cols": ["--tag-cols", "kind", "--users", "TABLE"],
    "--attribute-cols": ["--attribute-cols", "kind", "--items", "TABLE"],
    "--text-cols": ["--text-cols", "kind", "--items", "TABLE"],
    "--number-cols": ["--number-cols", "kind", "--items", "TABLE"],
    "--vector-cols": ["--vector-cols", "kind", "--items", "TABLE"],
    "--event-weights": ["--event-weights", "buy=2"],
    "--min-item-events": ["--min-item-events", "5"],
    "--min-user-events": ["--min-user-events", "5"],
}
# What an option is read with.
WITH = {
    "--title-col": ["--items", "TABLE"],
    "--event-col": ["--event-weights", "buy=2"],
    "--rating-col": ["--min-rating", "3"],
    **{option: ["--split", "time"] for option in CUT},
}


@pytest.mark.parametrize("one_model", [True, False])
def test_every_shared_option_changes_what_is_trained(
    one_model: bool, log: Path, titles: Path
) -> None:
    found: list[TrainingOptions] = []
    command = shared_options(one_model=one_model, found=found)

    def come_to(*words: str) -> TrainingOptions:
        texts = [word.replace("TABLE", str(titles)) for word in words]
        with pytest.raises(SystemExit) as stopped:
            run_command(command, [str(log), *texts])
        assert not stopped.value.code, words
        return found[-1]

    for option in options_of(command):
        beside = WITH.get(option, [])
        assert come_to(*beside, *GIVEN.get(option, [option, "1"])) != come_to(*beside), option


@pytest.mark.parametrize("follow", FOLLOWING)
@pytest.mark.parametrize("option", sorted(options_of(train)))
def test_what_follows_a_run_reads_or_refuses_every_option(
    option: str, follow: str, trained: Path, log: Path, run
) -> None:
    if option == follow:
        return
    words = GIVEN.get(option, [option, "1"])[:2]
    outcome = run("train", log, follow, trained / "none", *words)
    if option in ALWAYS | FOLLOWING[follow]:
        assert "cannot be given" not in outcome.err and "not a run directory" in outcome.err
    else:
        assert refused(outcome, option) and "cannot be given with it" in outcome.err


@pytest.mark.parametrize("follow", ["--like", "--init-from"])
def test_what_is_given_beside_a_run_counts(follow: str, trained: Path, log: Path, run) -> None:
    """Of each option a value that is refused: so it was read."""
    wrong = {"--max-minutes": "0", "--test-from": "no", "--targets": "no", "--ask-at": "no"}
    wrong |= {"--precision": "no", "--split": "no", "--seed": "-1"}
    for option in (*FOLLOWING[follow], "--items", "--users"):
        words = [*WITH.get(option, []), option, wrong.get(option, "0")]
        outcome = run("train", log, follow, trained, *words)
        assert outcome.code == 2 and (option in outcome.err or "there is no" in outcome.err), words


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["--event-col", "kind"], "--events or --event-weights"),
        (["--rating-col", "stars"], "--min-rating"),
        (["--title-col", "name"], "--items"),
        (["--test-days", "7"], "--split time"),
    ],
)
def test_an_option_that_changes_nothing_alone_names_what_it_is_read_with(
    words: list[str], needed: str, log: Path, run
) -> None:
    outcome = run("train", log, *words)
    assert outcome.code == 2
    assert f"{words[0]} is read only with {needed}" in outcome.err
