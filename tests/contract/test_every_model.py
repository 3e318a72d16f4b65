"""One contract for every model: int64 and string ids, table or no table, users or none.

A model is in this suite by being in the registry. The faults of the exporter, and where they are
seeded (the torch model that the gate compares with is never touched):

    id map off by one, in      every model: at the latest, it excludes another item
    id map off by one, out     every model
    exclude ignored            every model
    candidates ignored         every model
    later rows first           every model, with all weights 0: where no scores are equal, there
                               is no order to get wrong
    one weight off             every model
    last event dropped         where the history counts: not popularity, not models of pairs, which
                               know who asks and nothing else
    padding leak               likewise
    state of the event before  TableModels: a ScoreModel has no states
    causal mask off            sasrec, whose older positions look around as well. The one question
                               of attention-pool comes from the newest event, which may see all
    wrong norm epsilon         where a norm is; F.normalize is none, its epsilon guards a zero
    user map off by one        models that ask for `user`
    given tags ignored         models that ask for `user_tags`
    stored tags ignored        likewise
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import exporter_faults as faults
import onnx_ir as ir
import pytest

from attnrec.export import Limits, ParityFailure, export, exporting
from attnrec.export.body import export_body
from attnrec.runtime import Recommender
from attnrec.train import Run
from attnrec.train.models import FAMILY, MODELS
from attnrec.train.models.pair_model import PairModel
from attnrec.train.models.popularity import Popularity
from attnrec.train.models.protocol import RecommenderModel, TableModel
from attnrec.train.models.sasrec import SASRec

Patch = pytest.MonkeyPatch
BodyOf = Callable[[Run], ir.Model]
NO_LIMITS = Limits(min_overlap=0, max_ndcg_loss=1)
ID_TYPES = ("int64", "string")


def level(run: Run) -> Run:
    """The run of a model with the same score for every item."""
    model = copy.deepcopy(run.model)
    return replace(run, model=faults.zeroed(model))


def level_body(body: ir.Model) -> ir.Model:
    """The body of such a model: every weight, and what was folded of them, is 0."""
    for name, numbers in list(faults.weights_of(body)):
        body.graph.initializers[name].const_value = ir.tensor(0 * numbers, name=name)
    return body


# --- the gate


def test_the_gate_passes_and_says_so(member) -> None:
    report, n_users = member.report, len(member.run.split.held_out("test").histories)
    assert (report.n_faults, report.faults) == (0, [])
    assert report.n_test_users == report.n_identical == n_users > 40
    assert report.largest_share < 0.5
    recommender = Recommender.load(member.file)
    assert recommender.selftest() >= 4
    assert recommender.info.parity["identical_top_10"] == 1.0
    assert recommender.info.model == FAMILY[member.name][0]
    assert recommender.info.id_type == member.id_type


def test_a_run_that_was_kept_gives_the_same_bytes(
    member, body_of: BodyOf, monkeypatch: Patch, tmp_path: Path
) -> None:
    kept = Run.load(member.run.directory)
    monkeypatch.setattr(exporting, "export_body", lambda _: body_of(kept))
    export(kept, tmp_path / "again.onnx", allow_users=True)
    assert (tmp_path / "again.onnx").read_bytes() == member.file.read_bytes()


# --- faults


@dataclass(frozen=True)
class Fault:
    """Something wrong with the exporter: its head, its body, or the model that it exports."""

    name: str
    head: Callable[[Patch], None] | None = None
    body: Callable[[ir.Model], None] | None = None
    model: Callable[[RecommenderModel], RecommenderModel] | None = None
    of: Callable[[type[RecommenderModel]], bool] = lambda kind: True
    """Models that can have it."""
    level: bool = False
    """It shows where all scores are equal."""


def history_counts(kind: type[RecommenderModel]) -> bool:
    return not issubclass(kind, PairModel | Popularity)


def is_table(kind: type[RecommenderModel]) -> bool:
    return issubclass(kind, TableModel)


def is_sasrec(kind: type[RecommenderModel]) -> bool:
    return issubclass(kind, SASRec)


def asks_for_users(kind: type[RecommenderModel]) -> bool:
    return issubclass(kind, PairModel)


FAULTS = [
    Fault("id map off by one, in", faults.ids_shifted_on_the_way_in),
    Fault("id map off by one, out", faults.ids_shifted_on_the_way_out),
    Fault("exclude ignored", faults.exclude_ignored),
    Fault("candidates ignored", faults.candidates_ignored),
    Fault("later rows first", faults.later_rows_first, level=True),
    Fault("one weight off", body=faults.one_weight_off),
    Fault("last event dropped", faults.last_event_dropped, of=history_counts),
    Fault("padding leak", body=faults.padding_visible, of=history_counts),
    Fault("state of the event before", body=faults.state_of_the_event_before, of=is_table),
    Fault(
        "causal mask off", model=lambda m: faults.of_kind(faults.CausalMaskOff, m), of=is_sasrec
    ),
    Fault("wrong norm epsilon", body=faults.wrong_epsilon, of=is_sasrec),
    Fault("user map off by one", faults.users_shifted, of=asks_for_users),
    Fault("given tags ignored", faults.given_tags_ignored, of=asks_for_users),
    Fault("stored tags ignored", faults.stored_tags_ignored, of=asks_for_users),
]
# Both types of ids for every model and for every fault, but not for every pair of them.
SEEDED = [
    pytest.param(name, fault, ID_TYPES[(i + j) % 2], id=f"{name}-{fault.name}")
    for i, (name, (model, _)) in enumerate(FAMILY.items())
    for j, fault in enumerate(FAULTS)
    if fault.of(MODELS[model].model)
]


@pytest.mark.parametrize(("name", "fault", "id_type"), SEEDED)
def test_a_fault_of_the_exporter_is_found_and_nothing_is_written(
    name: str, fault: Fault, id_type: str, member_of, body_of: BodyOf, monkeypatch: Patch, tmp_path
) -> None:
    run = member_of(name, id_type).run
    body = body_of(run)
    if fault.level:
        run, body = level(run), level_body(body)
    if fault.model is not None:
        body = export_body(fault.model(run.model))
    if fault.body is not None:
        fault.body(body)
    monkeypatch.setattr(exporting, "export_body", lambda _: body)
    if fault.head is not None:
        fault.head(monkeypatch)
    with pytest.raises(ParityFailure, match="nothing was written"):
        export(run, tmp_path / "model.onnx", allow_users=True)
    assert list(tmp_path.iterdir()) == []
