"""From a run to one sealed file that has proved itself: in one profile, or in the smallest."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from attnrec.export.build import FileBuilder, UnprovedFile, exact_table, finish, profiles_of
from attnrec.export.errors import NoProfile, ParityFailure, QuantizationCostTooHigh
from attnrec.export.facts import describe
from attnrec.export.golden import golden_vectors
from attnrec.export.item_rules import rules_of
from attnrec.export.parity.gate import ParityReport, check_parity
from attnrec.export.quantize.cost import ProfileCost, QuantizationCost, quantization_cost
from attnrec.export.quantize.item_vectors import check_quantizable
from attnrec.export.refusals import Limits, check_max_mb, check_place
from attnrec.runtime.files import replace_file
from attnrec.runtime.model_file import format as names
from attnrec.runtime.recommender import Recommender
from attnrec.train.checks import check_kind
from attnrec.train.evaluation.metrics import Tick, evaluate_answers
from attnrec.train.fitting.device import torch_as_it_was
from attnrec.train.runs.run import Run
from attnrec.train.runs.target import profiles_file

logger = logging.getLogger(__name__)

_LARGEST_FILE = 10**9
_DEFAULT_LIMITS = Limits()


@contextmanager
def _one_thread() -> Iterator[None]:
    """With more threads torch adds in another order: the report in the file would differ."""
    with torch_as_it_was():
        torch.set_num_threads(1)
        yield


@_one_thread()
def export(
    run: Run,
    path: str | Path,
    profile: str = "fp32",
    *,
    limits: Limits = _DEFAULT_LIMITS,
    tick: Tick | None = None,
    allow_users: bool = False,
    tags: Sequence[str] | None = None,
    numbers: Sequence[str] | None = None,
) -> ParityReport:
    """Write `run` as one self-contained file and return how it compares with the torch model.

    profile: "fp32", or "int8" or "int4" with the item vectors rounded to so many bits, and the
    other weights to 8, or "int4+4", which is int8 for large catalogues in half the time; limits:
    what that may cost.
    allow_users: write a file that holds user ids, which a model with the input "user" needs.
    tags, numbers: columns of the items that requests may name in rules, None: all that there is
    room for; "title" stands for the words of the titles.
    Raises `ParityFailure` where the file does not answer like the model, `QuantizationCostTooHigh`
    above a limit, `ValueError` for a profile or a catalogue that cannot be exported; then
    nothing is written and an earlier file at `path` stays. The same run gives the same bytes.
    """
    check_kind("limits", limits, Limits, "write Limits(min_overlap=SHARE)")
    _check_exportable(run, path, (profile,), allow_users=allow_users)
    builder = FileBuilder(run, rules_of(run, tags, numbers))
    unproved = builder.of(profile)
    report = gate(unproved, tick)
    cost = None
    if profile != "fp32":
        cost = cost_of(builder.of("fp32"), unproved)
        reason = cost.too_high(profile, limits)
        if reason is not None:
            raise QuantizationCostTooHigh(profile, cost, reason)
    _write(path, _finished(builder, unproved, report, cost))
    return report


@_one_thread()
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
    tags: Sequence[str] | None = None,
    numbers: Sequence[str] | None = None,
) -> tuple[ParityReport, list[ProfileCost]]:
    """Write the smallest of `profiles` that keeps the limits; returns also the cost of each.

    profiles: None for all that the run can have. All are measured, fp32 as well. The costs are
    written next to the file, as `NAME.profiles.json`. max_mb: megabytes of the file; stage: called
    with the name of each step.
    Raises `NoProfile` where every profile exceeds a limit, and what `export` raises.
    """
    check_max_mb(max_mb)
    profiles = profiles_of(run) if profiles is None else profiles
    _check_exportable(run, path, profiles, allow_users=allow_users)
    stage("exporting")
    builder = FileBuilder(run, rules_of(run, tags, numbers))
    made = {profile: builder.of(profile) for profile in dict.fromkeys(["fp32", *profiles])}
    stage("measuring profiles")
    measured = _costs(made)
    costs = [_within(cost, limits, max_mb) for cost in measured]
    chosen = _smallest(costs, profiles)
    unproved = made[chosen.profile]
    report = gate(unproved, tick)
    file = _finished(builder, unproved, report, chosen.cost)
    # The report takes about the same room in every file.
    proof_mb = (len(file) - len(unproved.file)) / 1e6
    measured = [replace(cost, file_mb=cost.file_mb + proof_mb) for cost in measured]
    costs = [_within(cost, limits, max_mb) for cost in measured]
    _smallest(costs, [chosen.profile])
    _write(path, file)
    _keep(costs, chosen.profile, Path(path))
    return report, costs


def gate(unproved: UnprovedFile, tick: Tick | None) -> ParityReport:
    """The report of a file that answers like the torch model; else `ParityFailure`."""
    table = unproved.table
    report = check_parity(
        unproved.file,
        unproved.run,
        tick,
        item_table=None if table is None or table.is_exact else table.values,
        is_scanned=table is not None and table.scan_depth is not None,
        rules=unproved.rules,
    )
    if report.n_faults:
        raise ParityFailure(report)
    return report


def cost_of(exact: UnprovedFile, unproved: UnprovedFile) -> QuantizationCost:
    """The quantization cost: differences to the answers of the exact file."""
    size = len(unproved.file) / len(exact.file)
    return quantization_cost(exact.recommender(), unproved.recommender(), exact.run, size=size)


def _finished(
    builder: FileBuilder,
    unproved: UnprovedFile,
    report: ParityReport,
    cost: QuantizationCost | None,
) -> bytes:
    """The file with all facts: metrics, parity report, golden vectors."""
    run, metrics, parity = builder.run, builder.metrics, report.to_json()
    if cost is not None:
        parity["against_fp32"] = cost.to_json()
    if not run.split.final:
        metrics["test"] = _test_metrics(unproved)
    rules = builder.rules
    info = describe(run, metrics, parity, unproved.profile, rules)
    return finish(unproved.graph, info, golden=golden_vectors(unproved.file, run, rules))


def _write(path: str | Path, file: bytes) -> None:
    """Write a finished file, after its self-test."""
    with replace_file(path) as temporary:
        temporary.write_bytes(file)
        # The last check reads the file from the disk.
        Recommender.load(temporary).selftest()
    profiles_file(path).unlink(missing_ok=True)  # of an earlier file
    logger.info("wrote %s, %.2f MB", path, len(file) / 1e6)


def _check_exportable(
    run: Run, path: str | Path, profiles: Sequence[str], *, allow_users: bool
) -> None:
    """`ValueError` for a wrong place or profile, or a run that cannot be exported so."""
    check_kind("run", run, Run, "Run.load(directory) reads one")
    check_place(path, profiles)
    _check_run(run)
    _check_users(run, allow_users=allow_users)
    if set(profiles) - {"fp32"}:
        check_quantizable(run, profiles)


def _check_run(run: Run) -> None:
    run.split.check_ids(run.model.inputs)
    for name, weight in run.model.state_dict().items():
        if not weight.isfinite().all():
            raise ValueError(
                f"weight {name} of {run.directory} holds NaN or infinity; train again"
            )
    table = exact_table(run)
    size = 0 if table is None else table.values.nbytes
    if size > _LARGEST_FILE:
        raise ValueError(
            f"the item table takes {size / 1e9:.1f} GB, above the limit of 1 GB for one file; "
            "train with a smaller hidden_dim or a higher min_item_events"
        )


def _check_users(run: Run, *, allow_users: bool) -> None:
    """User ids are personal data: they leave the training machine only with `allow_users`."""
    if names.USER in run.model.inputs and not allow_users:
        raise ValueError(
            f"{run.config.model} knows its users, so the file would hold "
            f"{len(run.split.users.ids):,} user ids, which anyone who has the file can read: "
            "allow that with `allow_users`, or train a model that knows none, such as sasrec"
        )


def _test_metrics(unproved: UnprovedFile) -> dict[str, Any]:
    """Test metrics of the file itself, through the runtime."""
    run = unproved.run
    metrics = evaluate_answers(
        unproved.recommender(),
        run.split.held_out("test"),
        run.split.catalogue.item_ids,
        exclude_seen=not run.recipe.repeats,
        inputs=run.model.inputs,
    )
    return metrics.to_json()


def _smallest(costs: Sequence[ProfileCost], profiles: Sequence[str]) -> ProfileCost:
    """The smallest of these profiles that keeps the limits, else `NoProfile`."""
    candidates = [cost for cost in costs if cost.profile in profiles]
    fitting = [cost for cost in candidates if cost.beyond is None]
    if not fitting:
        raise NoProfile(candidates)
    return min(fitting, key=lambda cost: cost.file_mb)


def _within(cost: ProfileCost, limits: Limits, max_mb: float | None) -> ProfileCost:
    beyond = [None if cost.cost is None else cost.cost.too_high(cost.profile, limits)]
    if max_mb is not None and cost.file_mb > max_mb:
        beyond.append(f"the file has {cost.file_mb:.3g} MB, above the limit {max_mb:g}")
    return replace(cost, beyond=", and ".join(filter(None, beyond)) or None)


def _costs(made: dict[str, UnprovedFile]) -> list[ProfileCost]:
    exact = made["fp32"]
    ndcg = None if exact.run.split.final else _test_metrics(exact)["ndcg@10"]
    found = []
    for profile, unproved in made.items():
        table = unproved.table
        cost = None if unproved is exact else cost_of(exact, unproved)
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
    """Write the costs next to the file."""
    figures = {"chosen": chosen, "profiles": [cost.to_json() for cost in costs]}
    with replace_file(profiles_file(path)) as temporary:
        temporary.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
