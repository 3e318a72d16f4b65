"""What every profile costs, and the smallest file that keeps the limits."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from attnrec.export.build import FileBuilder, UnprovedFile, profiles_of
from attnrec.export.exporting import (
    check_exportable,
    finished,
    gate,
    one_thread,
    price_of,
    test_metrics,
    write,
)
from attnrec.export.limits import Limits, check_max_mb
from attnrec.export.parity.gate import ParityReport, Tick
from attnrec.export.quantize.cost import ProfileCost
from attnrec.runtime.errors import ParityError
from attnrec.runtime.files import replace_file
from attnrec.train.runs.run import Run
from attnrec.train.runs.target import profiles_file

_DEFAULT_LIMITS = Limits()


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
    profiles: Sequence[str] | None = None,
    *,
    limits: Limits = _DEFAULT_LIMITS,
    max_mb: float | None = None,
    tick: Tick | None = None,
    stage: Callable[[str], None] = lambda _: None,
    allow_users: bool = False,
) -> tuple[ParityReport, list[ProfileCost]]:
    """Write the smallest of `profiles` that keeps the limits; returns also what each costs.

    profiles: None for all that the run can have. All are measured, and fp32 beside them. The costs
    are kept beside the file, as `NAME.profiles.json`. max_mb: megabytes of the file; stage: told
    what is being done.
    Raises `NoProfile` where every profile passes a limit, and what `export` raises.
    """
    check_max_mb(max_mb)
    profiles = profiles_of(run) if profiles is None else profiles
    check_exportable(run, path, profiles, allow_users=allow_users)
    stage("exporting")
    builder = FileBuilder(run)
    made = {profile: builder.of(profile) for profile in dict.fromkeys(["fp32", *profiles])}
    stage("measuring profiles")
    measured = _costs(made)
    costs = [_within(cost, limits, max_mb) for cost in measured]
    chosen = _smallest(costs, profiles)
    unproved = made[chosen.profile]
    report = gate(unproved, tick)
    file = finished(builder, unproved, report, chosen.cost)
    # The proof, too, takes room in a file: in each about the same.
    proof_mb = (len(file) - len(unproved.file)) / 1e6
    measured = [replace(cost, file_mb=cost.file_mb + proof_mb) for cost in measured]
    costs = [_within(cost, limits, max_mb) for cost in measured]
    _smallest(costs, [chosen.profile])
    write(path, file)
    _keep(costs, chosen.profile, Path(path))
    return report, costs


def _smallest(costs: Sequence[ProfileCost], profiles: Sequence[str]) -> ProfileCost:
    """The smallest of these profiles that keeps the limits, else `NoProfile`."""
    asked = [cost for cost in costs if cost.profile in profiles]
    fitting = [cost for cost in asked if cost.beyond is None]
    if not fitting:
        raise NoProfile(asked)
    return min(fitting, key=lambda cost: cost.file_mb)


def _within(cost: ProfileCost, limits: Limits, max_mb: float | None) -> ProfileCost:
    beyond = [None if cost.cost is None else cost.cost.too_high(cost.profile, limits)]
    if max_mb is not None and cost.file_mb > max_mb:
        beyond.append(f"the file has {cost.file_mb:.3g} MB, above the limit {max_mb:g}")
    return replace(cost, beyond=", and ".join(filter(None, beyond)) or None)


def _costs(made: dict[str, UnprovedFile]) -> list[ProfileCost]:
    exact = made["fp32"]
    ndcg = None if exact.run.split.final else test_metrics(exact)["ndcg@10"]
    found = []
    for profile, unproved in made.items():
        table = unproved.table
        cost = None if unproved is exact else price_of(exact, unproved)
        change = 0.0 if cost is None else cost.ndcg_change
        found.append(
            ProfileCost(
                profile=profile,
                file_mb=len(unproved.file) / 1e6,
                table_mb=0.0 if table is None else table.n_bytes / 1e6,
                ndcg=None if ndcg is None or change is None else ndcg * (1 + change),
                cost=cost,
            )
        )
    return found


def _keep(costs: Sequence[ProfileCost], chosen: str, path: Path) -> None:
    """The report beside the file."""
    told = {"chosen": chosen, "profiles": [cost.to_json() for cost in costs]}
    with replace_file(profiles_file(path)) as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
