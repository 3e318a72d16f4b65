"""The progress bars of training (loss, validation NDCG@10, time left) and of its report."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from attnrec.cli.console import err
from attnrec.train.fitting.state import EpochRecord


def watching(progress: "TrainingProgress", given: Mapping[str, Any]) -> dict[str, Any]:
    """What every training is told by a command, beside what is to be trained."""
    reporting = progress.on_report if given["report"] else None
    return {"progress": progress, "resume": given["resume"], "reporting": reporting}


class ReportBar:
    """One bar over the steps of a report."""

    def __init__(self, *, quiet: bool) -> None:
        self._bar = Progress(
            TextColumn("report: {task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=err,
            transient=True,
            disable=quiet,
        )
        self._task = self._bar.add_task("")

    def move(self, what: str, done: int, n_steps: int) -> None:
        """Show what is being made."""
        self._bar.start()
        self._bar.update(self._task, description=what, completed=done, total=n_steps)

    def stop(self) -> None:
        """Leave nothing on the screen."""
        if self._bar.live.is_started:
            self._bar.stop()


class TrainingProgress:
    """One bar over all epochs and one line per finished epoch."""

    def __init__(self, *, quiet: bool) -> None:
        self._n_epochs = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("validation NDCG@10 {task.fields[ndcg]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=err,
            transient=True,
            disable=quiet,
        )
        self._task = self._bar.add_task("", total=0, loss=0.0, ndcg="-", visible=False)
        self._report = ReportBar(quiet=quiet)

    def on_start(self, n_epochs: int) -> None:
        """Know how long the bar is."""
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
        """Show the validation and leave a line behind."""
        line = f"epoch {record.epoch:3}  loss {record.loss:.4f}"
        if record.valid is not None:
            ndcg, hit_rate = record.valid["ndcg@10"], record.valid["hit_rate@10"]
            self._bar.update(self._task, ndcg=f"{ndcg:.4f}")
            line += f"  validation NDCG@10 {ndcg:.4f}  HitRate@10 {hit_rate:.4f}"
        self._bar.console.print(f"{line}  {record.seconds:.0f} s")

    def on_report(self, what: str, done: int, n_steps: int) -> None:
        """Show the report being made, in the place of the training."""
        if self._bar.live.is_started:
            self._bar.stop()
        self._report.move(what, done, n_steps)

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar.live.is_started:  # else it would leave an empty line in a log
            self._bar.stop()
        self._report.stop()
