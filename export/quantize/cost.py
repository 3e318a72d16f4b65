"""Quantization cost: the answers of a smaller file compared with those of the exact one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from attnrec.export.refusals import Limits
from attnrec.runtime.answers import Recommendations
from attnrec.train.evaluation.metrics import (
    Answers,
    ask,
    bootstrap_intervals,
    target_ranks,
    user_gains,
)
from attnrec.train.runs.run import Run
from attnrec.train.splits.held_out import HeldOut

_K = 10


@dataclass(frozen=True)
class QuantizationCost:
    """The difference to the exact file."""

    n_users: int
    """Users whose answers were compared."""
    overlap_10: float
    """Mean share of the exact top 10 that is in the top 10, in any order."""
    same_first: float
    """Share of users with the same first item."""
    size: float
    """Bytes as a share of the exact file's."""
    ndcg_change: float | None
    """Relative change of test NDCG@10, negative for a loss; None: a final run has no test."""
    ndcg_interval: tuple[float, float] | None
    """Paired 95 % bootstrap interval of that change, over users."""

    def to_json(self) -> dict[str, Any]:
        """The figures that are stored in the file."""
        return {
            "users": self.n_users,
            "overlap@10": round(self.overlap_10, 5),
            "same_first": round(self.same_first, 5),
            "size": round(self.size, 4),
            "ndcg@10_change": _rounded(self.ndcg_change),
            "ndcg@10_change_interval": self.ndcg_interval and [*map(_rounded, self.ndcg_interval)],
        }

    def too_high(self, profile: str, limits: Limits) -> str | None:
        """The limit that is exceeded, with both numbers; None: none is."""
        least = limits.overlap_of(profile)
        if self.overlap_10 < least:
            return f"overlap@10 is {self.overlap_10:.4f}, below the limit {least:g}"
        if self.ndcg_change is None or self.ndcg_interval is None:
            return None
        if self.ndcg_change < -limits.max_ndcg_loss and self.ndcg_interval[1] < 0:
            low, high = self.ndcg_interval
            return (
                f"NDCG@10 changes by {self.ndcg_change:+.2%} (95 % interval {low:+.2%} to "
                f"{high:+.2%}), a loss above the limit {limits.max_ndcg_loss:.2%}"
            )
        return None


@dataclass(frozen=True)
class ProfileCost:
    """One profile of one model."""

    profile: str
    file_mb: float
    """Megabytes of the file."""
    table_mb: float
    """Of that, the item vectors."""
    ndcg: float | None
    """Test NDCG@10; None: a final run has no test."""
    cost: QuantizationCost | None
    """Against the answers of fp32; None: this is fp32."""
    beyond: str | None = None
    """The limit that is exceeded, with both numbers; None: none is."""

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return asdict(self) | {"price": self.cost and self.cost.to_json()}


def quantization_cost(
    exact: Answers, smaller: Answers, run: Run, *, size: float
) -> QuantizationCost:
    """Compare the answers to every test user of `run`, or to every user of a final run."""
    split = run.split
    held_out = split.everybody() if split.final else split.held_out("test")
    before, after = (
        ask(answers, held_out, exclude_seen=not run.recipe.repeats, inputs=run.model.inputs)
        for answers in (exact, smaller)
    )
    pairs = [(a.item_ids[:_K], b.item_ids[:_K]) for a, b in zip(before, after, strict=True)]
    change = None if split.final else _ndcg_change(before, after, held_out)
    return QuantizationCost(
        n_users=len(pairs),
        overlap_10=float(np.mean([len({*a} & {*b}) / max(1, len(a)) for a, b in pairs if a])),
        same_first=float(np.mean([a[:1] == b[:1] for a, b in pairs])),
        size=size,
        ndcg_change=change and change[0],
        ndcg_interval=change and change[1],
    )


def _ndcg_change(
    before: Sequence[Recommendations], after: Sequence[Recommendations], held_out: HeldOut
) -> tuple[float, tuple[float, float]]:
    """Mean difference of NDCG@10 over users and its interval, relative to the mean before."""
    gains = [
        user_gains(target_ranks(lists, held_out), held_out.n_targets())["ndcg@10"]
        for lists in (before, after)
    ]
    mean = float(gains[0].mean()) or 1.0  # nothing found before: nothing to lose
    low, high = bootstrap_intervals({"change": gains[1] - gains[0]})["change"]
    return float((gains[1] - gains[0]).mean()) / mean, (low / mean, high / mean)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
