"""From a run directory to one sealed file that has proved itself."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from attnrec.export.build import FileBuilder, UnprovedFile, exact_table, finish
from attnrec.export.facts import describe, golden_vectors
from attnrec.export.limits import Limits, check_place
from attnrec.export.parity.gate import ParityReport, Tick, check_parity
from attnrec.export.quantize.cost import QuantizationCost, quantization_cost
from attnrec.export.quantize.item_vectors import check_quantizable
from attnrec.runtime.errors import ParityError
from attnrec.runtime.files import replace_file
from attnrec.runtime.model_file import format as names
from attnrec.runtime.recommender import Recommender
from attnrec.train.checks import check_kind
from attnrec.train.evaluation.metrics import evaluate_answers
from attnrec.train.fitting.device import torch_as_it_was
from attnrec.train.runs.run import Run
from attnrec.train.runs.target import profiles_file

logger = logging.getLogger(__name__)

_LARGEST_FILE = 10**9
_DEFAULT_LIMITS = Limits()


class ParityFailure(ParityError):
    """The gate found faults; `report` says where. Nothing was written."""

    def __init__(self, report: ParityReport) -> None:
        super().__init__(
            f"the exported graph does not answer like the torch model: {report.n_faults} of "
            f"{report.n_test_users + report.n_made_up_rows} rows; nothing was written"
        )
        self.report = report


class QuantizationCostTooHigh(ParityError):
    """A smaller file would recommend too differently; `cost` says how. Nothing was written."""

    def __init__(self, profile: str, cost: QuantizationCost, reason: str) -> None:
        super().__init__(
            f"{profile} changes the answers too much: {reason}, measured on {cost.n_users:,} "
            "users; nothing was written. Export fp32, or allow more"
        )
        self.cost = cost


@contextmanager
def one_thread() -> Iterator[None]:
    """More threads of torch add in another order, and the report in the file would tell."""
    with torch_as_it_was():
        torch.set_num_threads(1)
        yield


@one_thread()
def export(
    run: Run,
    path: str | Path,
    profile: str = "fp32",
    *,
    limits: Limits = _DEFAULT_LIMITS,
    tick: Tick | None = None,
    allow_users: bool = False,
) -> ParityReport:
    """Write `run` as one self-contained file and return how it compares with the torch model.

    profile: "fp32", or "int8" or "int4" with the item vectors rounded to so many bits, and the
    other weights to 8, or "int4+4", which is int8 for large catalogues in half the time; limits:
    what that may cost.
    allow_users: write a file that holds user ids, which a model with the input "user" needs.
    Raises `ParityFailure` where the file does not answer like the model, `QuantizationCostTooHigh`
    above a limit, `ValueError` for a profile or a catalogue that cannot be exported; then
    nothing is written and an earlier file at `path` stays. The same run gives the same bytes.
    """
    check_kind("limits", limits, Limits, "write Limits(min_overlap=SHARE)")
    check_exportable(run, path, (profile,), allow_users=allow_users)
    builder = FileBuilder(run)
    unproved = builder.of(profile)
    report = gate(unproved, tick)
    cost = None
    if profile != "fp32":
        cost = price_of(builder.of("fp32"), unproved)
        reason = cost.too_high(profile, limits)
        if reason is not None:
            raise QuantizationCostTooHigh(profile, cost, reason)
    write(path, finished(builder, unproved, report, cost))
    return report


def gate(unproved: UnprovedFile, tick: Tick | None) -> ParityReport:
    """The report of a unproved that answers like the torch model; else `ParityFailure`."""
    table = unproved.table
    report = check_parity(
        unproved.file,
        unproved.run,
        tick,
        item_table=None if table is None or table.is_exact else table.values,
        is_scanned=table is not None and table.scan_depth is not None,
    )
    if report.n_faults:
        raise ParityFailure(report)
    return report


def price_of(exact: UnprovedFile, unproved: UnprovedFile) -> QuantizationCost:
    """What the answers of a unproved lose against the exact file."""
    size = len(unproved.file) / len(exact.file)
    return quantization_cost(exact.recommender(), unproved.recommender(), exact.run, size=size)


def finished(
    builder: FileBuilder,
    unproved: UnprovedFile,
    report: ParityReport,
    cost: QuantizationCost | None,
) -> bytes:
    """The file with all that is known of it."""
    run, metrics, parity = builder.run, builder.metrics, report.to_json()
    if cost is not None:
        parity["against_fp32"] = cost.to_json()
    if not run.split.final:
        metrics["test"] = test_metrics(unproved)
    info = describe(run, metrics, parity, unproved.profile)
    return finish(unproved.graph, info, golden=golden_vectors(unproved.file, run))


def write(path: str | Path, file: bytes) -> None:
    """Write a finished file."""
    with replace_file(path) as temporary:
        temporary.write_bytes(file)
        # The last word belongs to the file as it lies on the disk.
        Recommender.load(temporary).selftest()
    profiles_file(path).unlink(missing_ok=True)  # of an earlier file
    logger.info("wrote %s, %.2f MB", path, len(file) / 1e6)


def check_exportable(
    run: Run, path: str | Path, profiles: Sequence[str], *, allow_users: bool
) -> None:
    """`ValueError` for a place or a profile that there is not, or a run that has no such file."""
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
    """User ids are personal data: they leave the training machine only when somebody says so."""
    if names.USER in run.model.inputs and not allow_users:
        raise ValueError(
            f"{run.config.model} knows its users, so the file would hold "
            f"{len(run.split.users.ids):,} user ids, which anyone who has the file can read: "
            "allow that with `allow_users`, or train a model that knows none, "
            "such as sasrec"
        )


def test_metrics(unproved: UnprovedFile) -> dict[str, Any]:
    """What is measured is what is shipped: the file, through the runtime."""
    run = unproved.run
    metrics = evaluate_answers(
        unproved.recommender(),
        run.split.held_out("test"),
        run.split.catalogue.item_ids,
        exclude_seen=not run.recipe.repeats,
        inputs=run.model.inputs,
    )
    return metrics.to_json()
