"""`attnrec-train --tune MINUTES`: a search for settings, its progress, and what it came to."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from attnrec.cli.console import err, out
from attnrec.cli.train_log import read_given
from attnrec.cli.train_options import config_of
from attnrec.cli.train_progress import ReportBar
from attnrec.train.fitting.config import value_text
from attnrec.train.report.verdicts import changes, ended, ranked
from attnrec.train.runs.run import Run
from attnrec.train.tuning.search import tune_log

if TYPE_CHECKING:
    from attnrec.train.tuning.study import Trial  # with optuna, which is an extra

_N_SHOWN = 8

Told = Mapping[str, Any]


def train_tuned(given: Mapping[str, Any], target: Path) -> Run:
    """Search within the time that was given, and keep the run of the best trial."""
    config, minutes = config_of(given), given["tune"]
    log, report, recipe = read_given(given)
    with SearchBar(minutes * 60, quiet=given["quiet"]) as bar:
        return tune_log(
            log,
            report,
            recipe,
            config,
            minutes=minutes,
            out=target,
            progress=bar,
            resume=given["resume"],
            reporting=bar.on_report if given["report"] else None,
        )


class SearchBar:
    """One bar over the time of the search, and a line for every trial."""

    def __init__(self, most_seconds: float, *, quiet: bool) -> None:
        self._most_seconds = most_seconds
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[done]} done, best NDCG@10 {task.fields[best]}"),
            TimeElapsedColumn(),
            TextColumn("left {task.fields[left]}"),
            console=err,
            transient=True,
            disable=quiet,
        )
        self._task = self._bar.add_task(
            "trial 0", total=most_seconds, done=0, best="-", left=_clock(most_seconds)
        )
        self._report = ReportBar(quiet=quiet)

    def on_move(self, number: int, share: float, seconds: float) -> None:
        """Show the time that is left."""
        self._bar.update(
            self._task,
            description=f"trial {number}, {share:4.0%}",
            completed=min(seconds, self._most_seconds),
            left=_clock(self._most_seconds - seconds),
        )

    def on_trial(self, trial: "Trial", best: "Trial | None") -> None:
        """Leave a line behind."""
        reached = "-" if best is None else f"{best.ndcg:.4f} (trial {best.number})"
        self._bar.update(self._task, done=trial.number + 1, best=reached)
        ndcg = "     -" if trial.ndcg is None else f"{trial.ndcg:.4f}"
        how = ended(trial.outcome, len(trial.curve))
        self._bar.console.print(
            f"trial {trial.number:3}  validation NDCG@10 {ndcg}  {how}, {trial.seconds:.0f} s"
        )

    def on_report(self, what: str, done: int, n_steps: int) -> None:
        """Show the report being made, in the place of the search."""
        if self._bar.live.is_started:
            self._bar.stop()
        self._report.move(what, done, n_steps)

    def __enter__(self) -> "SearchBar":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar.live.is_started:
            self._bar.stop()
        self._report.stop()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02}"


def print_tuning(told: Told) -> None:
    """The best trials, what they changed, what mattered, and how much of it to believe."""
    trials = ranked(told["trials"])
    out.print(_table(trials[:_N_SHOWN], told["recipe"]))
    if len(trials) > _N_SHOWN:
        print(f"{len(trials) - _N_SHOWN} more trials: in metrics.json")
    if told["importance"]:
        shares = [f"{name} {share:.0%}" for name, share in told["importance"].items()]
        print(f"what mattered (share of the differences): {', '.join(shares[:5])}")
    _print_gain(told)


def _table(trials: list[Told], recipe: Told) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("trial", "NDCG@10", "minutes"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("ended", no_wrap=True)
    table.add_column("against the recipe", overflow="fold")
    for trial in trials:
        ndcg = trial["ndcg@10"]
        changed = changes(trial["values"], recipe)
        told = ", ".join(f"{name} {value_text(value)}" for name, value in changed.items())
        table.add_row(
            str(trial["number"]),
            "-" if ndcg is None else f"{ndcg:.4f}",
            f"{trial['seconds'] / 60:.1f}",
            ended(trial["outcome"], len(trial["curve"])),
            told or "the recipe",
        )
    return table


def _print_gain(told: Told) -> None:
    n_trials = len(told["trials"])
    counted = f"{n_trials} trial{'' if n_trials == 1 else 's'}"
    used = f"{counted} in {told['seconds'] / 60:.1f} of {told['minutes']:g} minutes"
    if told["trials"][0]["outcome"] == "cut short":
        print(
            f"note: {used}: too few for the recipe itself, which was cut short; give --tune more"
        )
    elif n_trials == 1:
        print(f"note: {used}: too few for more than the recipe; give --tune more")
    elif told["best"] == 0:
        print(f"search: {used}; nothing was better than the recipe, which is kept")
    else:
        low, high = told["gain_interval"]
        print(
            f"search: {used}; trial {told['best']} is kept, {told['gain']:+.4f} NDCG@10 to the "
            f"recipe (paired 95 % interval {low:+.4f} to {high:+.4f})"
        )
        print(
            f"note: the best of {n_trials} on the same validation people is partly luck, which "
            "no interval shows: attnrec-export and attnrec-evaluate tell what is left of it on "
            "the test events"
        )
