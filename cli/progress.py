"""The progress bars of a training, of a search for settings, and of the report after each."""

import math
import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from attnrec.cli.console import err, say
from attnrec.train.fitting.state import EpochRecord
from attnrec.train.report.verdicts import ended

if TYPE_CHECKING:
    from attnrec.train.tuning.study import Trial  # with optuna, which is an extra

_SECONDS_A_LINE = 60  # where standard error is no terminal


class _Bar:
    """One bar, first over the work, then over the steps of its report; in the end it is gone.

    Where standard error is a file or a pipe: a line at once, and then one a minute.
    """

    def __init__(self, most_seconds: float = math.inf) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
        self._bar = Progress(
            *columns, TextColumn("{task.fields[left]}"), console=err, transient=True,
            disable=err.quiet,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=None, visible=False, left="")
        self._most_seconds = most_seconds
        self._origin: tuple[float, float] | None = None  # time and place of the first move
        self._next_line = 0.0

    def _move(self, text: str, done: float, total: float) -> None:
        now = time.monotonic()
        began, first = self._origin = self._origin or (now, done)
        left = self._most_seconds - (now - began)
        if done > first:
            left = min(left, (now - began) * (total - done) / (done - first))
        shown = "" if math.isinf(left) else f"{timedelta(seconds=max(0, round(left)))} left  "
        shown += _memory()
        self._bar.update(
            self._task, description=text, completed=done, total=total, visible=True, left=shown
        )
        if not err.is_terminal and now >= self._next_line:
            self._next_line = now + _SECONDS_A_LINE
            say(f"{text}  {shown}")

    def on_report(self, what: str, done: int, n_steps: int) -> None:
        """Show a step of the report."""
        if done == 0:
            self._bar.reset(self._task)
            self._origin, self._most_seconds = None, math.inf
        self._bar.start()  # a report that is made alone has had no bar
        self._move(f"report: {what}", done, n_steps)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()


class TrainingProgress(_Bar):
    """Over all epochs, and one line per finished epoch."""

    _n_epochs, _ndcg = 0, "-"

    def on_start(self, n_epochs: int) -> None:
        """Know how many epochs there are."""
        self._n_epochs = n_epochs

    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        """Move by a step."""
        text = f"epoch {epoch}/{self._n_epochs}  step {step:,}/{n_steps:,}  loss {loss:.3f}"
        text += f"  validation NDCG@10 {self._ndcg}"
        self._move(text, epoch - 1 + step / n_steps, self._n_epochs)

    def on_epoch(self, record: EpochRecord) -> None:
        """Print a line, with the validation if there is one."""
        line = f"epoch {record.epoch:3}  loss {record.loss:.4f}"
        if record.valid is not None:
            self._ndcg = f"{record.valid['ndcg@10']:.4f}"
            hit_rate = record.valid["hit_rate@10"]
            line += f"  validation NDCG@10 {self._ndcg}  HitRate@10 {hit_rate:.4f}"
        self._bar.console.print(f"{line}  {record.seconds:.0f} s")


class SearchProgress(_Bar):
    """Over the time of a search, and one line per trial."""

    _best = "-"

    def on_move(self, number: int, share: float, seconds: float) -> None:
        """Show how far trial `number` is."""
        text = f"trial {number}, {share:4.0%}  best NDCG@10 {self._best}"
        self._move(text, min(seconds, self._most_seconds), self._most_seconds)

    def on_trial(self, trial: "Trial", best: "Trial | None") -> None:
        """Print a line."""
        if best is not None:
            self._best = f"{best.ndcg:.4f} (trial {best.number})"
        ndcg = "     -" if trial.ndcg is None else f"{trial.ndcg:.4f}"
        how = ended(trial.outcome, len(trial.curve))
        self._bar.console.print(
            f"trial {trial.number:3}  validation NDCG@10 {ndcg}  {how}, {trial.seconds:.0f} s"
        )


def _memory() -> str:
    """The most memory that this process has held so far; nothing where the system does not say."""
    if sys.platform == "win32":
        return ""
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:,.0f} MB"
