"""What `attnrec-train` prints when it is done."""

import json
import shlex
from typing import Any

from attnrec.cli.console import say
from attnrec.cli.train_tuning import print_tuning
from attnrec.runtime.words import counted
from attnrec.train.data.baskets import basket_note
from attnrec.train.report.figures import best_of
from attnrec.train.run_files import REPORT_FILE
from attnrec.train.runs.run import Run


def print_result(run: Run, *, as_json: bool) -> None:
    """For a person, or one JSON object."""
    metrics = run.metrics
    report = run.directory / REPORT_FILE if metrics.report is not None else None
    if as_json:
        result = {
            "run": str(run.directory),
            "model": run.config.model,
            "final": run.split.final,
            "best_epoch": metrics.best_epoch,
            "split": run.config.split,
            "part": "valid",
            **({"of": metrics.of} if run.split.final else {}),
            **metrics.valid,
            "report": report and str(report),
            **({"tuning": metrics.tuning} if metrics.tuning is not None else {}),
        }
        print(json.dumps(result))
        return
    if metrics.tuning is not None and not run.split.final:
        print_tuning(metrics.tuning)
    _print_figures(run)
    directory = shlex.quote(str(run.directory))
    say(f"run written to {run.directory}. Next: attnrec-export {directory}")
    if report is not None:
        say(f"report for people: {report}")


def _print_figures(run: Run) -> None:
    metrics = run.metrics
    valid = metrics.valid
    whose = "before the held-out events were added" if run.split.final else "validation"
    print(
        f"{run.config.model}: NDCG@10 {valid['ndcg@10']:.4f}, HitRate@10 "
        f"{valid['hit_rate@10']:.4f} ({whose}, {counted(valid['n_users'], 'user')})"
    )
    if metrics.report is not None:
        _print_traditional(metrics.report["traditional"])
    if (note := basket_note(metrics.to_json())) is not None:
        print(f"note: {note}")


def _print_traditional(models: list[dict[str, Any]]) -> None:
    """The best of them, which is the one to beat."""
    best = best_of(models)
    if best is None:
        return
    low, high = best["ndcg@10_to_run_interval"]
    print(
        f"best traditional model, {best['model']}: NDCG@10 {best['ndcg@10']:.4f}, "
        f"{best['ndcg@10_to_run']:+.4f} to this run (paired 95 % interval {low:+.4f} to "
        f"{high:+.4f})"
    )
