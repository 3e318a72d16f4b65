"""What every profile costs on this machine, and the smallest file that keeps the limits."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from attnrec.export.draft import PROFILES, Draft, Drafts
from attnrec.export.exporting import (
    check_exportable,
    gate,
    one_thread,
    price_of,
    seal,
)
from attnrec.export.parity import ParityReport, Tick
from attnrec.export.price import Limits, Price
from attnrec.export.profiles_plot import draw_profiles
from attnrec.runtime.errors import ParityError
from attnrec.runtime.files import replace_file
from attnrec.runtime.measuring import Subject, cold_starts, take_turns
from attnrec.train.evaluation import evaluate_answers
from attnrec.train.run import Run

_HISTORY = 50
_SECONDS = 2.0  # for one profile
Percentiles = tuple[float, float]


@dataclass(frozen=True)
class ProfileCost:
    """One profile of one model on one machine."""

    profile: str
    file_mb: float
    """Megabytes of the file."""
    table_mb: float
    """Of that, the item vectors."""
    ndcg: float | None
    """Test NDCG@10; None: a final run has no test."""
    price: Price | None
    """The answers against those of fp32; None: they are those."""
    p50_us: float
    """Median of an answer after 50 events, one thread, microseconds."""
    p99_us: float
    """99th percentile of it."""
    memory_mb: float | None
    """Resident memory of a fresh process that has answered; None where no system tells."""
    beyond: str | None = None
    """Which limit it passes, with both numbers; None: none."""

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return asdict(self) | {"price": self.price and self.price.to_json()}


class NoProfile(ParityError):
    """Every profile passes a limit; `costs` says which. Nothing was written."""

    def __init__(self, costs: Sequence[ProfileCost]) -> None:
        reasons = "; ".join(f"{cost.profile}: {cost.beyond}" for cost in costs if cost.beyond)
        super().__init__(f"no profile keeps the limits, nothing was written. {reasons}")
        self.costs = list(costs)


@one_thread()
def export_smallest(
    run: Run,
    path: str | Path,
    profiles: Sequence[str] = PROFILES,
    *,
    limits: Limits,
    tick: Tick | None = None,
    stage: Callable[[str], None] = lambda _: None,
    allow_users: bool = False,
) -> tuple[ParityReport, list[ProfileCost]]:
    """Write the smallest of `profiles` that keeps the limits; returns also what each costs.

    All are measured, and fp32 beside them. The costs are kept beside the file, as
    `NAME.profiles.json` and as a picture. stage: told what is being done.
    Raises `NoProfile` where every profile passes a limit, and what `export` raises.
    """
    check_exportable(run, profiles, allow_users=allow_users)
    stage("exporting")
    drafts = Drafts(run)
    made = {profile: drafts.of(profile) for profile in dict.fromkeys(["fp32", *profiles])}
    stage("measuring profiles")
    costs = [_within(cost, limits) for cost in _costs(made)]
    fitting = [c for c in costs if c.profile in profiles and c.beyond is None]
    if not fitting:
        raise NoProfile([cost for cost in costs if cost.profile in profiles])
    chosen = min(fitting, key=lambda cost: cost.file_mb)
    draft = made[chosen.profile]
    report = gate(drafts, draft, tick)
    seal(drafts, draft, path, report, chosen.price)
    _keep(costs, chosen.profile, Path(path))
    return report, costs


def _within(cost: ProfileCost, limits: Limits) -> ProfileCost:
    beyond = None if cost.price is None else cost.price.too_high(cost.profile, limits)
    if limits.max_mb is not None and cost.file_mb > limits.max_mb:
        beyond = f"the file has {cost.file_mb:.3g} MB, above the limit {limits.max_mb:g}"
    if limits.max_us is not None and cost.p50_us > limits.max_us:
        beyond = f"an answer takes {cost.p50_us:.0f} us, above the limit {limits.max_us:g}"
    return replace(cost, beyond=beyond)


def _costs(made: dict[str, Draft]) -> list[ProfileCost]:
    exact, run = made["fp32"], made["fp32"].run
    speeds, memory = _measured(made)
    found = []
    for profile, draft in made.items():
        table = draft.table
        found.append(
            ProfileCost(
                profile=profile,
                file_mb=len(draft.file) / 1e6,
                table_mb=0.0 if table is None else table.n_bytes / 1e6,
                ndcg=None if run.split.final else _ndcg(draft, run),
                price=None if draft is exact else price_of(exact, draft),
                p50_us=speeds[profile][0],
                p99_us=speeds[profile][1],
                memory_mb=memory[profile],
            )
        )
    return found


def _ndcg(draft: Draft, run: Run) -> float:
    asked, ids = run.split.held_out("test"), run.split.catalogue.item_ids
    repeats, inputs = run.recipe.repeats, run.model.inputs
    answers = draft.recommender()
    found = evaluate_answers(answers, asked, ids, exclude_seen=not repeats, inputs=inputs)
    return float(found.values["ndcg@10"])


def _measured(
    made: dict[str, Draft],
) -> tuple[dict[str, Percentiles], dict[str, float | None]]:
    """Median and 99th percentile of an answer, and memory, by profile; all take turns."""
    with TemporaryDirectory() as folder:
        subjects = {}
        for profile, draft in made.items():
            file = Path(folder) / f"{profile}.onnx"
            file.write_bytes(draft.file)
            subjects[profile] = Subject.of_file(file)
        starts = cold_starts(list(subjects.values()), seconds=0)
        calls = {profile: subject.call(_HISTORY, 1) for profile, subject in subjects.items()}
        taken = take_turns(calls, _SECONDS * len(calls))
    speeds = {}
    for profile, us in taken.items():
        p50, p99 = np.percentile(us, [50, 99]).tolist()
        speeds[profile] = (p50, p99)
    return speeds, {p: s["answer_mb"] for p, s in zip(subjects, starts, strict=True)}


def _keep(costs: Sequence[ProfileCost], chosen: str, path: Path) -> None:
    """The report beside the file."""
    told = {"chosen": chosen, "profiles": [cost.to_json() for cost in costs]}
    with replace_file(path.with_suffix(".profiles.json")) as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    with replace_file(path.with_suffix(".profiles.png")) as temporary:
        draw_profiles(costs, chosen, temporary)
