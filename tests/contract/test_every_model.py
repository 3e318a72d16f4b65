"""One contract for every model: int64 and string ids, table or no table, users or none.

A model is in this suite by being in the registry. All of it is one file, because models are
trained and exported once for each process that runs tests.
"""

import copy
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import exporter_faults as faults
import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from fault_table import FAULTS, Fault
from numpy.typing import NDArray

from attnrec.cli.console import run_command
from attnrec.cli.evaluate import evaluate as evaluate_command
from attnrec.export import Limits, ParityFailure, build, export
from attnrec.export.facts import describe
from attnrec.export.graph.trace import export_body
from attnrec.export.item_rules import rules_of
from attnrec.export.parity.rule_calls import calls_with_rules
from attnrec.export.parity.synthetic_calls import (
    calls_with_times,
    calls_with_users,
    contract_calls,
)
from attnrec.export.quantize.item_vectors import rounded_table
from attnrec.runtime import Recommender
from attnrec.runtime.model_file import format as names
from attnrec.runtime.session import make_session
from attnrec.train import Metrics, Run, evaluate
from attnrec.train.evaluation.metrics import evaluate_answers
from attnrec.train.evaluation.torch_recommender import TorchRecommender
from attnrec.train.models import COMPARED_MODELS, MODELS
from attnrec.train.models.base import TableModel
from attnrec.train.splits.config import Part

pytestmark = pytest.mark.usefixtures("equal_weights_are_traced_once")

Patch = pytest.MonkeyPatch
BodyOf = Callable[[Run], ir.Model]
NO_LIMITS = Limits(min_overlap=0, max_ndcg_loss=1)
ID_TYPES = ("int64", "string")
N_ITEMS = 40
KINDS: dict[str, tuple[Any, Any]] = {
    "tensor(int64)": (np.int64, -1), "tensor(string)": (object, ""),
    "tensor(float)": (np.float32, 0.0),
}  # fmt: skip


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


def test_the_gate_passes_and_its_report_is_in_the_file(member) -> None:
    report, n_users = member.report, len(member.run.split.held_out("test").histories)
    assert (report.n_faults, report.faults) == (0, [])
    assert report.n_test_users == report.n_identical == n_users > 40
    assert report.largest_share < 0.5
    split, model, id_type = member.run.split, member.run.model, member.id_type
    calls = [
        *contract_calls(split.catalogue, id_type, model.config.max_len),
        *calls_with_users(split.catalogue, split.users, model.inputs, id_type),
        *calls_with_times(
            split.catalogue, model.inputs, id_type, model.config.max_len, member.run.seen_until()
        ),
        *calls_with_rules(split.catalogue, id_type, rules_of(member.run)),
    ]
    assert report.n_synthetic_rows == sum(len(call.histories) for call in calls)
    recommender = Recommender.load(member.file)
    assert recommender.selftest() >= 4
    assert recommender.info.parity["identical_top_10"] == 1.0
    assert recommender.info.model == COMPARED_MODELS[member.name][0]
    assert recommender.info.id_type == member.id_type


def test_user_ids_leave_the_machine_only_with_permission(member, tmp_path: Path) -> None:
    info, ids = Recommender.load(member.file).info, member.run.split.users.ids.tolist()
    with_tags = (*names.TAG_INPUTS, names.BOOST_BY)  # the items of this suite have tags
    assert info.inputs[4:] == (*member.run.model.inputs, *with_tags)
    if "user" not in info.inputs:
        assert (info.user_id_type, info.n_users) == (None, 0)
        return
    assert info.user_id_type == ("string" if isinstance(ids[0], str) else "int64")
    assert info.n_users == len(ids)
    with pytest.raises(ValueError, match=rf"{len(ids)} user ids, which anyone .* `allow_users`"):
        export(member.run, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "id_type"), [(name, ID_TYPES[n % 2]) for n, name in enumerate(COMPARED_MODELS)]
)
def test_a_run_that_was_kept_gives_the_same_bytes(
    name: str, id_type: str, member_of, tmp_path: Path
) -> None:
    member = member_of(name, id_type)
    kept = Run.load(member.run.directory)
    export(kept, tmp_path / "again.onnx", allow_users=True)
    assert (tmp_path / "again.onnx").read_bytes() == member.file.read_bytes()


# --- faults


# Both types of ids for every model and for every fault, but not for every pair of them.
SEEDED = [
    pytest.param(name, fault, ID_TYPES[(i + j) % 2], id=f"{name}-{fault.name}")
    for i, (name, (model, _)) in enumerate(COMPARED_MODELS.items())
    for j, fault in enumerate(FAULTS)
    if fault.of(MODELS[model].model) and fault.variant in ("", name)
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
    monkeypatch.setattr(build, "export_body", lambda _: body)
    if fault.head is not None:
        fault.head(monkeypatch)
    with pytest.raises(ParityFailure, match="nothing was written") as failure:
        export(run, tmp_path / "model.onnx", allow_users=True)
    found = [fault.what for fault in failure.value.report.faults]
    assert any(fault.clause in what for what in found)
    assert not any("cannot answer" in what for what in found), "another fault than the one meant"
    assert list(tmp_path.iterdir()) == []


# --- what a row may not depend on


def random_rows(member, rng: np.random.Generator) -> dict[str, list[list[Any]]]:
    """The parts of a call, a list a row: history, exclude and side inputs."""
    split = member.run.split
    ids, users, tags = split.catalogue.item_ids, split.users.ids, np.array(split.users.tags)
    lengths = [0, 1, *rng.integers(0, 20, 10)]
    rows = {
        "history": [rng.choice(ids, n).tolist() for n in lengths],
        "exclude": [rng.choice(ids, n % 4).tolist() for n in lengths],
        "candidates": [[] for _ in lengths],
        "user": [[user] for user in rng.choice(users, len(lengths)).tolist()],
        "user_tags": [rng.choice(tags, n % 3).tolist() for n in lengths],
        "timestamps": [(10**6 + rng.integers(0, 10**4, n).cumsum()).tolist() for n in lengths],
        "request_time": [[int(time)] for time in 10**6 + rng.integers(-1, 10**6, len(lengths))],
    }
    rules = rules_of(member.run)
    assert rules is not None
    named = np.array([*rules.tags, "no such:tag"])
    for name, most in (("require_all", 1), ("require_any", 2), ("forbid", 1), ("boost", 2)):
        n_tags = rng.integers(0, most + 1, len(lengths)) * (rng.random(len(lengths)) < 0.5)
        rows[name] = [rng.choice(named, n).tolist() for n in n_tags]
    rows["boost_by"] = [rng.normal(size=len(own)).tolist() for own in rows["boost"]]
    return rows


def ask(
    session: onnxruntime.InferenceSession, ids: list[Any], rows: dict[str, list[list[Any]]]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A call of the graph: score of every item (B, N), -inf where excluded; known ids (B,)."""
    feed: dict[str, NDArray[Any]] = {"k": np.array([len(ids)])}
    for given in session.get_inputs():
        if given.name != "k":
            own, width = rows[given.name], max(map(len, rows[given.name]))
            kind, padding = KINDS[given.type]
            filled = [row + [padding] * (width - len(row)) for row in own]
            array = np.array(filled, kind).reshape(len(own), width)
            feed[given.name] = array[:, 0] if given.name in ("user", "request_time") else array
    items, best, n_known = session.run(None, feed)[:3]
    scores = np.full(best.shape, -np.inf, dtype=np.float32)
    for row, (own, own_scores) in enumerate(zip(items.tolist(), best, strict=True)):
        n = int(np.isfinite(own_scores).sum())
        scores[row, [ids.index(item) for item in own[:n]]] = own_scores[:n]
    return scores, n_known


def inserted(row: list[Any], place: float, filling: list[Any]) -> list[Any]:
    """The row with something in it that is no item; place: 0 at the start, 1 at the end."""
    at = round(place * len(row))
    return [*row[:at], *filling, *row[at:]]


def assert_alike(answers: Any, others: Any) -> None:
    """Both have the same known ids, and scores within the tolerance of the row."""
    (scores, n_known), (other_scores, n_other) = answers, others
    assert n_known.tolist() == n_other.tolist()
    for row, other in zip(scores, other_scores, strict=True):
        tolerance = 1e-5 * np.abs(row[np.isfinite(row)]).max(initial=1.0)
        np.testing.assert_allclose(other, row, rtol=0, atol=tolerance)


def test_a_row_is_answered_alike_in_any_batch_and_padding(member) -> None:
    session = onnxruntime.InferenceSession(member.file, providers=["CPUExecutionProvider"])
    ids = member.run.split.catalogue.item_ids.tolist()
    nothing = [-1, 10**17] if member.id_type == "int64" else ["", "no such id"]
    for seed in range(2):
        rng = np.random.default_rng(seed)
        rows = random_rows(member, rng)
        scores, n_known = answers = ask(session, ids, rows)
        for n in range(len(scores)):
            alone = {name: part[n : n + 1] for name, part in rows.items()}
            one = scores[n : n + 1], n_known[n : n + 1]
            assert_alike(one, ask(session, ids, alone))
        for filling, place in itertools.product((nothing[:1], nothing[1:], nothing), (0, 0.5, 1)):
            more = [filling * int(rng.integers(5)) for _ in rows["history"]]
            padded = {
                name: [inserted(*part) for part in zip(rows[name], repeat(place), more)]
                for name in ("history", "exclude")
            }
            # What is no item has any time.
            times = zip(rows["timestamps"], repeat(place), ([7] * len(own) for own in more))
            padded["timestamps"] = [inserted(*part) for part in times]
            assert_alike(answers, ask(session, ids, rows | padded))


# --- ties


def order_of_level(file: bytes, history: list[Any]) -> list[Any]:
    """The items of a file after a history, without the seen ones."""
    recommender = Recommender.from_session(make_session(file))
    answer = recommender.recommend(history, N_ITEMS, exclude_seen=True)
    assert len(set(answer.scores)) == 1
    return answer.item_ids


def test_equal_scores_are_in_the_order_of_the_table(member, body_of: BodyOf) -> None:
    run, body = level(member.run), level_body(body_of(member.run))
    ids = run.split.catalogue.item_ids.tolist()
    tables = {"fp32": build.exact_table(run)}
    if isinstance(run.model, TableModel):
        tables["int8"] = rounded_table(run, "int8")
    for profile, table in tables.items():
        graph = build.build_graph(run, body, table)
        file = build.finish(graph, describe(run, {}, None, profile))
        assert order_of_level(file, []) == ids
        assert order_of_level(file, ids[9:2:-2]) == ids[:3] + ids[4:9:2] + ids[10:]


@pytest.mark.parametrize("id_type", ID_TYPES)
def test_items_of_equal_popularity_are_in_the_order_of_the_table(id_type: str, member_of) -> None:
    member = member_of("popularity", id_type)
    answer = Recommender.load(member.file).recommend([], N_ITEMS)
    assert len(set(answer.scores)) < len(answer.scores)
    assert answer.item_ids == member.run.split.catalogue.item_ids.tolist()


# --- int8


def test_a_table_may_be_rounded_and_scores_have_none(member, tmp_path: Path) -> None:
    run, target = member.run, tmp_path / "model.onnx"
    if not isinstance(run.model, TableModel):
        with pytest.raises(ValueError, match="nothing to quantize"):
            export(run, target, "int8", limits=NO_LIMITS, allow_users=True)
        assert list(tmp_path.iterdir()) == []
        return
    report = export(run, target, "int8", limits=NO_LIMITS, allow_users=True)
    assert report.n_faults == 0 and report.item_table == "quantized"
    recommender = Recommender.load(target)
    assert recommender.info.profile == "int8" and recommender.selftest() >= 4


# --- what is like an item


def test_near_vectors_are_similar_and_models_without_similar_items_refuse(member) -> None:
    run, recommender = member.run, Recommender.load(member.file)
    ids, model = run.split.catalogue.item_ids.tolist(), run.model
    if isinstance(model, TableModel):
        vectors = torch.nn.functional.normalize(model.item_table()[1:], dim=-1)
        order = (vectors @ vectors[3]).argsort(descending=True, stable=True).tolist()
        assert recommender.similar(ids[3]).item_ids == [ids[i] for i in order if i != 3][:10]
    elif member.name in (
        "popularity",
        "popularity-7-days",
        "personal-frequency",
        "user-item-attention",
        "neumf",
    ):
        with pytest.raises(ValueError, match="same as after an empty history"):
            recommender.similar(ids[3])
    else:
        similar, after = recommender.similar(ids[3], 5), recommender.recommend([ids[3]], 5)
        assert similar.kind == "next" and similar.pairs() == after.pairs()


# --- figures


def measured_in_torch(run: Run, part: Part) -> Metrics:
    """The figures without a file."""
    return evaluate_answers(
        TorchRecommender(run.model, run.split.catalogue, users=run.split.users),
        run.split.held_out(part),
        run.split.catalogue.item_ids,
        exclude_seen=True,
        inputs=run.model.inputs,
    )


@pytest.mark.parametrize("part", ["valid", "test"])
def test_a_file_is_measured_as_the_torch_model_would_be(member, part: Part) -> None:
    of_file, in_torch = evaluate(member.file, part=part), measured_in_torch(member.run, part)
    assert of_file.values == pytest.approx(in_torch.values, rel=0, abs=1e-9)
    for name, ends in in_torch.intervals.items():
        assert of_file.intervals[name] == pytest.approx(ends, rel=0, abs=1e-9)
    assert of_file.n_users == in_torch.n_users > 40
    assert Recommender.load(member.file).info.metrics[part] == in_torch.to_json()
    assert part == "test" or member.run.metrics["valid"] == in_torch.to_json()


@pytest.mark.parametrize("id_type", ID_TYPES)
def test_the_command_prints_the_figures_of_torch(
    id_type: str, member_of, capsys: pytest.CaptureFixture[str]
) -> None:
    members = [member_of(name, id_type) for name in COMPARED_MODELS]
    with pytest.raises(SystemExit) as stopped:
        run_command(evaluate_command, [*(str(m.file) for m in members), "--json", "-q"])
    assert not stopped.value.code
    printed = json.loads(capsys.readouterr().out)["models"]
    for entry, member in zip(printed, members, strict=True):
        expected = measured_in_torch(member.run, "test").to_json()
        assert {name: entry[name] for name in expected} == expected
        assert entry["model"] == member.run.config.model and entry["file"] == str(member.file)
