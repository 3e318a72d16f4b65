"""From a run directory to one sealed file that has proved itself."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch

from attnrec.export.body import export_added, export_body
from attnrec.export.contract import assemble
from attnrec.export.describe import describe, golden_vectors
from attnrec.export.ids import check_catalogue, check_users
from attnrec.export.item_table import BlockTable, FloatTable, ItemTable
from attnrec.export.parity import ParityReport, Tick, check_parity
from attnrec.export.price import Limits, Price, price
from attnrec.export.quantize import check_quantizable, int8_table
from attnrec.export.weights import pack_indexes, round_weights
from attnrec.runtime import format as names
from attnrec.runtime.errors import ParityError
from attnrec.runtime.files import replace_file
from attnrec.runtime.model_info import ModelInfo
from attnrec.runtime.recommender import Recommender
from attnrec.runtime.session import make_session
from attnrec.train.evaluation import evaluate_answers
from attnrec.train.models.protocol import TableModel
from attnrec.train.run import Run

logger = logging.getLogger(__name__)

PROFILES = ("fp32", "int8")
_LARGEST_FILE = 10**9
# Histories are in the report.
_STAY_IN_RUN = {"epochs", "held_out_epochs", "recipe", "report", "tuning"}
_DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class _Draft:
    """A file that still has to prove itself."""

    table: ItemTable | None
    graph: bytes
    file: bytes
    """The graph with what is known of it so far, sealed."""

    def recommender(self) -> Recommender:
        return Recommender.from_session(make_session(self.file))


@dataclass(frozen=True)
class Source:
    """A model, and what the exporter has made of it."""

    run: Run
    body: ir.Model
    added: ir.Model | None

    @classmethod
    def of(cls, run: Run) -> "Source":
        """The model as it was trained."""
        source = cls(run, export_body(run.model), export_added(run.model))
        for part in source.parts():
            pack_indexes(part)
        return source

    def rounded(self) -> "Source":
        """The same with 8-bit weights."""
        body, added = self.body.clone(), self.added and self.added.clone()
        rounded = Source(self.run, body, added)
        return replace(
            rounded, run=replace(self.run, model=round_weights(self.run.model, rounded.parts()))
        )

    def parts(self) -> list[ir.Model]:
        return [self.body] if self.added is None else [self.body, self.added]


class ParityFailure(ParityError):
    """The gate found faults; `report` says where. Nothing was written."""

    def __init__(self, report: ParityReport) -> None:
        super().__init__(
            f"the exported graph does not answer like the torch model: {report.n_faults} of "
            f"{report.n_test_users + report.n_made_up_rows} rows; nothing was written"
        )
        self.report = report


class PriceTooHigh(ParityError):
    """A smaller file would recommend too differently; `price` says how. Nothing was written."""

    def __init__(self, profile: str, price: Price, reason: str) -> None:
        super().__init__(
            f"{profile} changes the answers too much: {reason}, measured on {price.n_users:,} "
            "users; nothing was written. Export fp32, or allow more"
        )
        self.price = price


@contextmanager
def _one_thread() -> Iterator[None]:
    """More threads of torch add in another order, and the report in the file would tell."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


@_one_thread()
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

    profile: "fp32", or "int8" with the item vectors rounded to 8 bits; limits: what that may cost.
    allow_users: write a file that holds user ids, which a model with the input "user" needs.
    Raises `ParityFailure` where the file does not answer like the model, `PriceTooHigh` where a
    limit is passed, `ValueError` for a profile or a catalogue that cannot be exported; then
    nothing is written and an earlier file at `path` stays. The same run gives the same bytes.
    """
    if profile not in PROFILES:
        raise ValueError(f"no profile {profile!r}; there are: {', '.join(PROFILES)}")
    _check_run(run)
    _check_users(run, allow_users=allow_users)
    if profile != "fp32":
        check_quantizable(run)
    metrics = {name: value for name, value in run.metrics.items() if name not in _STAY_IN_RUN}

    def draft_of(source: Source, table: ItemTable | None) -> _Draft:
        graph = build_graph(source.run, source.body, table, source.added)
        return _Draft(table, graph, _finish(graph, describe(run, metrics, None, profile)))

    source = exact = Source.of(run)
    table: ItemTable | None = _exact_table(run)
    if profile != "fp32":
        source = exact.rounded()
        table = int8_table(source.run)
    if isinstance(table, BlockTable):
        # Its codes have to pass where nothing but the codes is rounded.
        _gate(draft_of(source, table.with_exact_states()), source.run, tick)
    draft = draft_of(source, table)
    report = _gate(draft, source.run, tick)
    parity = report.to_json()
    if profile != "fp32":
        before = draft_of(exact, _exact_table(run))
        parity["against_fp32"] = _acceptable_price(before, draft, run, profile, limits).to_json()
    if not run.split.final:
        metrics["test"] = _test_metrics(draft, run)
    info = describe(run, metrics, parity, profile)
    file = _finish(draft.graph, info, golden=golden_vectors(draft.file, run))
    with replace_file(path) as temporary:
        temporary.write_bytes(file)
        # The last word belongs to the file as it lies on the disk.
        Recommender.load(temporary).selftest()
    logger.info("wrote %s, %.2f MB", path, len(file) / 1e6)
    return report


def build_graph(
    run: Run, body: ir.Model, table: ItemTable | None, added: ir.Model | None = None
) -> bytes:
    """The self-contained graph without any facts, as the bytes of an ONNX model."""
    max_len = run.model.config.max_len
    users, declared = run.split.users, run.model.inputs
    added = None if added is None else added.clone()
    model = assemble(body.clone(), table, run.split.catalogue, max_len, users, declared, added)
    serialized: bytes = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    return serialized


def _check_run(run: Run) -> None:
    check_catalogue(run.split.catalogue)
    for name, weight in run.model.state_dict().items():
        if not weight.isfinite().all():
            raise ValueError(
                f"weight {name} of {run.directory} holds NaN or infinity; train again"
            )
    table = _exact_table(run)
    size = 0 if table is None else table.values.nbytes
    if size > _LARGEST_FILE:
        raise ValueError(
            f"the item table takes {size / 1e9:.1f} GB, above the limit of 1 GB for one file; "
            "train with a smaller --hidden-dim or a higher --min-item-events"
        )


def _check_users(run: Run, *, allow_users: bool) -> None:
    """User ids are personal data: they leave the training machine only when somebody says so."""
    if not run.model.inputs:
        return
    check_users(run.split.users)
    if names.USER in run.model.inputs and not allow_users:
        raise ValueError(
            f"{run.config.model} knows its users, so the file would hold "
            f"{len(run.split.users.ids):,} user ids, which anyone who has the file can read: "
            "export with --allow-users (allow_users=True), or train a model that knows none, "
            "such as sasrec"
        )


def _exact_table(run: Run) -> FloatTable | None:
    if not isinstance(run.model, TableModel):
        return None
    return FloatTable(np.ascontiguousarray(run.model.item_table().detach().numpy()))


def _gate(draft: _Draft, run: Run, tick: Tick | None) -> ParityReport:
    """The report of a draft that answers like the torch model with the draft's table."""
    table = draft.table
    report = check_parity(
        draft.file,
        run,
        tick,
        item_table=None if table is None or table.is_exact else table.values,
        is_coarse=table is not None and table.rounds_states,
    )
    if report.n_faults:
        raise ParityFailure(report)
    return report


def _acceptable_price(
    exact: _Draft, draft: _Draft, run: Run, profile: str, limits: Limits
) -> Price:
    size = len(draft.file) / len(exact.file)
    cost = price(exact.recommender(), draft.recommender(), run, size=size)
    reason = cost.too_high(limits)
    if reason is not None:
        raise PriceTooHigh(profile, cost, reason)
    return cost


def _finish(graph: bytes, info: ModelInfo, golden: str | None = None) -> bytes:
    """Append facts and seal; the bytes of the graph stay those that the gate has passed."""
    entries = info.to_metadata()
    if golden is not None:
        entries[names.GOLDEN_KEY] = golden
    facts = b"".join(names.metadata_entry(key, value) for key, value in entries.items())
    return names.seal(graph + facts)


def _test_metrics(draft: _Draft, run: Run) -> dict[str, object]:
    """What is measured is what is shipped: the file, through the runtime."""
    metrics = evaluate_answers(
        draft.recommender(),
        run.split.held_out("test"),
        run.split.catalogue.item_ids,
        exclude_seen=not run.recipe.repeats,
        inputs=run.model.inputs,
    )
    return metrics.to_json()
