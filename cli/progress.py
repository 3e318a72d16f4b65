"""The progress bars of a training, of a search for settings, and of the report after each."""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from attnrec.cli.console import err
from attnrec.train.fitting.state import EpochRecord
from attnrec.train.report.trials import ended

if TYPE_CHECKING:
    from attnrec.train.tuning.study import Trial  # with optuna, which is an extra


class _Bars:
    """A bar over the work, then one over the steps of its report; neither stays on the screen."""

    def __init__(self, *columns: ProgressColumn) -> None:
        report = TextColumn("report: {task.description}"), BarColumn(), TimeElapsedColumn()
        self._bar, self._report = (
            Progress(*shown, console=err, transient=True, disable=err.quiet)
            for shown in (columns, report)
        )
        self._step = self._report.add_task("")

    def on_report(self, what: str, done: int, n_steps: int) -> None:
        """Show the report being made, in place of the work."""
        self._stop(self._bar)
        self._report.start()
        self._report.update(self._step, description=what, completed=done, total=n_steps)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for bar in (self._bar, self._report):
            self._stop(bar)

    @staticmethod
    def _stop(bar: Progress) -> None:
        if bar.live.is_started:  # else it would leave an empty line in a log
            bar.stop()


class TrainingProgress(_Bars):
    """One bar over all epochs and one line per finished epoch."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("validation NDCG@10 {task.fields[ndcg]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self._n_epochs = 0
        self._task = self._bar.add_task("", total=0, loss=0.0, ndcg="-", visible=False)

    def on_start(self, n_epochs: int) -> None:
        """Set the length of the bar."""
        self._n_epochs = n_epochs
        self._bar.update(self._task, total=n_epochs)

    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        """Move the bar by a step."""
        self._bar.update(
            self._task,
            description=f"epoch {epoch}/{self._n_epochs}",
            completed=epoch - 1 + step / n_steps,
            loss=loss,
            visible=True,
        )

    def on_epoch(self, record: EpochRecord) -> None:
        """Show the validation, and print a line."""
        line = f"epoch {record.epoch:3}  loss {record.loss:.4f}"
        if record.valid is not None:
            ndcg, hit_rate = record.valid["ndcg@10"], record.valid["hit_rate@10"]
            self._bar.update(self._task, ndcg=f"{ndcg:.4f}")
            line += f"  validation NDCG@10 {ndcg:.4f}  HitRate@10 {hit_rate:.4f}"
        self._bar.console.print(f"{line}  {record.seconds:.0f} s")


class SearchProgress(_Bars):
    """One bar over the time of a search, and one line per trial."""

    def __init__(self, most_seconds: float) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[done]} done, best NDCG@10 {task.fields[best]}"),
            TimeElapsedColumn(),
            TextColumn("left {task.fields[left]}"),
        )
        self._most_seconds = most_seconds
        self._task = self._bar.add_task(
            "trial 0", total=most_seconds, done=0, best="-", left=_clock(most_seconds)
        )

    def on_move(self, number: int, share: float, seconds: float) -> None:
        """Show the time that is left."""
        self._bar.update(
            self._task,
            description=f"trial {number}, {share:4.0%}",
            completed=min(seconds, self._most_seconds),
            left=_clock(self._most_seconds - seconds),
        )

    def on_trial(self, trial: "Trial", best: "Trial | None") -> None:
        """Print a line."""
        reached = "-" if best is None else f"{best.ndcg:.4f} (trial {best.number})"
        self._bar.update(self._task, done=trial.number + 1, best=reached)
        ndcg = "     -" if trial.ndcg is None else f"{trial.ndcg:.4f}"
        how = ended(trial.outcome, len(trial.curve))
        self._bar.console.print(
            f"trial {trial.number:3}  validation NDCG@10 {ndcg}  {how}, {trial.seconds:.0f} s"
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02}"
