"""What `attnrec-train` prints when it is done."""

import json
import shlex
from typing import Any

from attnrec.cli.console import say
from attnrec.cli.train_tuning import print_tuning
from attnrec.runtime.words import counted
from attnrec.train.data.baskets import basket_note
from attnrec.train.report.baselines import best_of
from attnrec.train.run_files import REPORT_FILE
from attnrec.train.runs.run import Run


def print_result(run: Run, *, as_json: bool) -> None:
    """For a person, or one JSON object."""
    metrics = run.metrics
    report = run.directory / REPORT_FILE if "report" in metrics else None
    if as_json:
        result = {
            "run": str(run.directory),
            "model": run.config.model,
            "final": run.split.final,
            "best_epoch": metrics["best_epoch"],
            "split": run.config.split,
            "part": "valid",
            **({"of": metrics["of"]} if run.split.final else {}),
            **metrics["valid"],
            "report": report and str(report),
            **({"quantize_aware": aware} if (aware := metrics.get("quantize_aware")) else {}),
            **({"tuning": metrics["tuning"]} if "tuning" in metrics else {}),
        }
        print(json.dumps(result))
        return
    if "tuning" in metrics and not run.split.final:
        print_tuning(metrics["tuning"])
    _print_figures(run)
    directory = shlex.quote(str(run.directory))
    export = f"attnrec-export {directory}"
    if aware := metrics.get("quantize_aware"):
        export = f"attnrec-export {directory} --quantize {aware['profile']}"
    say(f"run written to {run.directory}. Next: {export}")
    if report is not None:
        say(f"report for people: {report}")


def _print_figures(run: Run) -> None:
    metrics = run.metrics
    valid = metrics["valid"]
    whose = "before the held-out events were added" if run.split.final else "validation"
    print(
        f"{run.config.model}: NDCG@10 {valid['ndcg@10']:.4f}, HitRate@10 "
        f"{valid['hit_rate@10']:.4f} ({whose}, {counted(valid['n_users'], 'user')})"
    )
    if "quantize_aware" in metrics:
        _print_rounding(metrics["quantize_aware"])
    if "report" in metrics:
        _print_traditional(metrics["report"]["traditional"])
    if (note := basket_note(metrics)) is not None:
        print(f"note: {note}")


def _print_rounding(told: dict[str, Any]) -> None:
    """The answers beside those of the run that it came from."""
    line = (
        f"{told['profile']} beside the run it came from ({counted(told['users'], 'user')}): "
        f"overlap@10 {told['overlap@10']:.4f}, first item the same {told['same_first']:.1%}"
    )
    if "ndcg@10_change" in told:
        low, high = told["ndcg@10_change_interval"]
        line += (
            f", NDCG@10 {told['ndcg@10_change']:+.2%} (paired 95 % interval {low:+.2%} to "
            f"{high:+.2%})"
        )
    print(line)


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
