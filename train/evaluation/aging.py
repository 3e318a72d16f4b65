"""How the quality of a file ages: what people take in the days after all that it has seen."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from attnrec.runtime.arguments import IdArray
from attnrec.train.evaluation.metrics import Answers, metrics_of, rank_targets
from attnrec.train.splits.config import TimeSplit
from attnrec.train.splits.held_out import HeldOut, targets_of
from attnrec.train.splits.split import Split
from attnrec.train.splits.time_split import DAY, asked_in, cuts_of

_WIDTHS = (1, 7, 30, 91, 365)  # days of a window
_MOST_WINDOWS = 12


class AgeWindow(NamedTuple):
    """Targets of some days, asked for with all events before these days as the history."""

    from_days: int  # since the cut
    to_days: int
    held_out: HeldOut


def age_windows(divided: Split) -> list[AgeWindow]:
    """The days after the cut of a log, in at most 12 windows of equal length with somebody in."""
    by, log = divided.by, divided.interactions
    assert isinstance(by, TimeSplit)
    cuts = cuts_of(by, log)
    n_days = (cuts.end - cuts.test_from) / DAY
    width = next((w for w in _WIDTHS if w * _MOST_WINDOWS >= n_days), _WIDTHS[-1])
    windows = []
    for n in range(_MOST_WINDOWS):
        start = cuts.test_from + n * width * DAY
        asked = asked_in(log, start, start + width * DAY, by.targets)
        if start < cuts.end and len(asked.users):
            moment = start if by.ask_at == "cut" else None
            held_out = targets_of(log, by, asked, moment)
            windows.append(AgeWindow(n * width, (n + 1) * width, held_out))
    return windows


def age_figures(
    answers: Answers,
    windows: Sequence[AgeWindow],
    catalogue_ids: IdArray,
    *,
    exclude_seen: bool,
    inputs: Sequence[str],
) -> list[dict[str, Any]]:
    """Figures of a file in each window, for JSON."""
    figures = []
    for window in windows:
        ranking = rank_targets(answers, window.held_out, exclude_seen=exclude_seen, inputs=inputs)
        found = metrics_of(ranking, window.held_out, catalogue_ids).to_json()
        names = ("n_users", "ndcg@10", "ndcg@10_interval", "hit_rate@10", "missing_targets")
        days = {"from_days": window.from_days, "to_days": window.to_days}
        figures.append(days | {name: found[name] for name in names})
    return figures
