"""The profiles int8 and int4: the same file with rounded weights, and the quantization cost."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from attnrec.export import (
    Limits,
    ParityFailure,
    QuantizationCost,
    QuantizationCostTooHigh,
    build,
    export,
)
from attnrec.export.build import FileBuilder, GraphParts, profiles_of
from attnrec.export.graph import scanned_table
from attnrec.export.graph.item_table import Codes, UnfoldedTable
from attnrec.export.graph.scanned_table import NESTED_CODES, NestedTable, ScannedTable
from attnrec.export.graph.trace import export_body
from attnrec.export.parity.gate import check_parity
from attnrec.export.quantize import item_vectors
from attnrec.runtime import Recommender
from attnrec.train import Run

pytestmark = pytest.mark.usefixtures("equal_weights_are_traced_once")

# Ten of forty items are a quarter of them: what is a near tie here is far apart in a shop.
LOOSE = Limits(min_overlap=0.95, max_ndcg_loss=1)
FORMS = {"unfolded": 10**9, "scanned": 0}
RUNS = ("sasrec-string", "sasrec-int64")
ROUNDED = {"unfolded": ("int8", "int4"), "scanned": ("int8", "int4+4", "int4")}
KINDS = [(form, profile) for form, profiles in ROUNDED.items() for profile in profiles]
LIMITS = dict.fromkeys(ROUNDED["scanned"], LOOSE) | {
    "int4": Limits(min_overlap=0.8, max_ndcg_loss=1)
}


@pytest.fixture(scope="module")
def rounded_files(
    runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str, str], Path]:
    """Both runs in both forms and profiles, by (run, form, profile)."""
    directory = tmp_path_factory.mktemp("rounded")
    files = {}
    with pytest.MonkeyPatch.context() as patch:
        for form, scanned_from in FORMS.items():
            patch.setattr(item_vectors, "SCANNED_FROM", scanned_from)
            for name, profile in product(RUNS, ROUNDED[form]):
                file = files[name, form, profile] = directory / f"{name}-{form}-{profile}.onnx"
                export(runs[name], file, profile, limits=LIMITS[profile])
    return files


@pytest.fixture(scope="module")
def rounded_runs(runs: dict[str, Run]) -> dict[tuple[str, str], Run]:
    """The runs with the weights that their rounded files have, by (run, form)."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for form, scanned_from in FORMS.items():
            patch.setattr(item_vectors, "SCANNED_FROM", scanned_from)
            for name in RUNS:
                found[name, form] = GraphParts.of(runs[name]).rounded().run
    return found


@pytest.fixture(params=[(run, *kind) for run in RUNS for kind in KINDS], ids="-".join)
def made(
    request: pytest.FixtureRequest,
    rounded_files: dict[tuple[str, str, str], Path],
    rounded_runs: dict[tuple[str, str], Run],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Run, Path, str]:
    """A run with rounded weights, its file and the profile of it, in turn."""
    run, form, profile = request.param
    monkeypatch.setattr(item_vectors, "SCANNED_FROM", FORMS[form])
    return rounded_runs[run, form], rounded_files[request.param], profile


def operators(file: Path) -> set[str]:
    model = onnx.load(file)
    branches = [attribute.g.node for node in model.graph.node for attribute in node.attribute]
    return {node.op_type for nodes in (model.graph.node, *branches) for node in nodes}


# --- rounding


@settings(max_examples=60)
@given(
    values=arrays(np.float32, (5, 16), elements=st.floats(-1e6, 1e6, width=32)),
    block=st.sampled_from([4, 16]),
)
def test_four_bits_lose_no_more_than_the_nearest_of_15_even_codes(
    values: NDArray[np.float32], block: int
) -> None:
    codes = item_vectors.quantize(values, np.empty((0, 16), np.float32), block, bits=4)
    assert codes.codes.min() >= -8 and codes.codes.max() <= 7
    blocks = values.reshape(5, -1, block)
    whole = np.maximum(np.abs(blocks).max(axis=2, keepdims=True) / 7, 1e-30)
    nearest = np.rint(blocks / whole) * whole
    lost, allowed = (
        np.square(blocks - x.reshape(blocks.shape)) for x in (codes.values(), nearest)
    )
    assert (lost.sum(axis=2) <= allowed.sum(axis=2) * 1.001 + 1e-30).all()


@settings(max_examples=60)
@given(
    values=arrays(np.float32, (5, 16), elements=st.floats(-1e6, 1e6, width=32)),
    block=st.sampled_from([4, 16]),
)
def test_without_states_every_value_goes_to_the_nearest_code(
    values: NDArray[np.float32], block: int
) -> None:
    codes = item_vectors.quantize(values, np.empty((0, 16), np.float32), block)
    assert np.abs(codes.codes).max() <= 127
    assert (codes.scales > 0).all()
    half_a_step = np.repeat(codes.scales[..., 0], block, axis=1) / 2
    assert (np.abs(codes.values() - values) <= half_a_step * 1.0001 + 1e-30).all()


def test_states_that_are_alike_keep_their_scores_better_than_nearest_codes() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 32)).astype(np.float32)
    states = (rng.normal(size=(2000, 4)) @ rng.normal(size=(4, 32))).astype(np.float32)
    later = (rng.normal(size=(500, 4)) @ np.eye(4, 32)).astype(np.float32)
    nearest = item_vectors.quantize(values, np.empty((0, 32), np.float32), 32).values()
    chosen = item_vectors.quantize(values, states, 32).values()

    def score_error(rounded: NDArray[np.float32], of: NDArray[np.float32]) -> float:
        return float(np.square(of @ (rounded - values).T).mean())

    assert score_error(chosen, states) < score_error(nearest, states) / 4
    assert score_error(chosen, later) < 10 * score_error(nearest, later)  # others are not ruined


# --- the file


def test_a_large_catalogue_is_computed_with_codes_and_a_small_one_is_not(
    rounded_files: dict[tuple[str, str, str], Path],
) -> None:
    contrib = {"GatherBlockQuantized", "MatMulNBits"}
    for (_, form, _), file in rounded_files.items():
        assert (contrib if form == "scanned" else set()) == contrib & operators(file), file


def test_vectors_that_are_no_blocks_of_16_are_unfolded_whatever_the_catalogue(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(item_vectors, "SCANNED_FROM", 0)
    monkeypatch.setattr(item_vectors, "_BLOCKS", {"int8": (32,), "int4+4": (32,)})  # of 16 values
    assert isinstance(item_vectors.rounded_table(runs["sasrec-string"], "int8"), UnfoldedTable)
    with pytest.raises(ValueError, match=r"here are \d+ items of 16\. int8 has the same quality"):
        export(runs["sasrec-string"], tmp_path / "model.onnx", "int4+4")


def test_a_small_catalogue_has_no_halves(runs: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"int4\+4 is for catalogues of 100,000 items and more"):
        export(runs["sasrec-string"], tmp_path / "model.onnx", "int4+4")
    assert "int4+4" not in profiles_of(runs["sasrec-string"])
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60)
@given(
    values=arrays(np.float32, (5, 32), elements=st.floats(-1e6, 1e6, width=32)),
    block=st.sampled_from([16, 32]),
)
def test_two_halves_of_4_bits_are_the_8_bit_codes(values: NDArray[np.float32], block: int) -> None:
    no_states = np.empty((0, 32), np.float32)
    codes = item_vectors.quantize(values, no_states, block, between=NESTED_CODES)
    assert codes.codes.min() >= NESTED_CODES[0] and codes.codes.max() <= NESTED_CODES[1]
    nested = NestedTable(codes)
    largest = np.abs(codes.values()).max()
    assert np.allclose(nested.values, codes.values(), rtol=0, atol=1e-6 * largest)


def test_similar_items_are_those_of_the_rounded_vectors(made: tuple[Run, Path, str]) -> None:
    run, file, profile = made
    table = item_vectors.rounded_table(run, profile).values[1:]
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    ids, recommender = run.split.catalogue.item_ids.tolist(), Recommender.load(file)
    for row in (0, 7):
        near = unit @ unit[row]
        near[row] = -np.inf
        found = recommender.similar(ids[row], k=5)
        assert found.item_ids == [ids[i] for i in np.argsort(-near, kind="stable")[:5]]
        assert np.allclose(found.scores, np.sort(near)[::-1][:5], atol=1e-5)


def test_the_cost_is_in_the_file(made: tuple[Run, Path, str]) -> None:
    run, file, profile = made
    info = Recommender.load(file).info
    assert info.profile == profile and info.parity is not None
    cost = info.parity["against_fp32"]
    assert cost["users"] == info.parity["test_users"] == len(run.split.held_out("test").histories)
    assert LIMITS[profile].min_overlap <= cost["overlap@10"] <= 1
    low, high = cost["ndcg@10_change_interval"]
    assert low <= cost["ndcg@10_change"] <= high
    assert info.metrics["test"]["ndcg@10"] > 0


def test_the_recall_of_a_scan_is_in_the_file(
    rounded_files: dict[tuple[str, str, str], Path],
) -> None:
    for (_, form, _), file in rounded_files.items():
        info = Recommender.load(file).info
        assert info.parity is not None
        # Of 40 items, every one is found.
        expected = {"found@10": 1.0, "found@100": 1.0} if form == "scanned" else None
        assert info.parity.get("scan") == expected


def test_in_a_large_catalogue_only_what_grows_with_it_is_rounded(
    runs: dict[str, Run], rounded_runs: dict[tuple[str, str], Run]
) -> None:
    exact = runs["sasrec-string"].model.state_dict()
    n_items = runs["sasrec-string"].split.catalogue.n_items
    for form in FORMS:
        rounded = rounded_runs["sasrec-string", form].model.state_dict()
        changed = {name for name in exact if not torch.equal(exact[name], rounded[name])}
        assert changed
        if form == "scanned":
            assert all(len(exact[name]) >= n_items for name in changed)


@pytest.mark.parametrize("profile", ROUNDED["scanned"])
def test_what_a_short_scan_misses_is_counted_and_the_rest_is_exact(
    profile: str, runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_vectors, "SCANNED_FROM", 0)
    monkeypatch.setattr(scanned_table, "_DEPTH", 0)  # 20 items for the 10 best
    monkeypatch.setattr(ScannedTable, "scan_depth", 0)
    made = FileBuilder(runs["sasrec-string"]).of(profile)
    report = check_parity(made.file, made.run, item_table=made.table.values, is_scanned=True)
    assert report.found is not None and 0.9 < report.found.share(10) <= 1
    assert [fault for fault in report.faults if "scan finds" not in fault.what] == []
    assert report.largest_share <= 1


def test_a_scan_that_finds_too_little_does_not_pass_the_gate(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(item_vectors, "SCANNED_FROM", 0)
    monkeypatch.setattr(scanned_table, "_DEPTH", 0)
    real = NestedTable.project
    monkeypatch.setattr(
        NestedTable, "project", lambda self, g, state, bias: real(self, g, g.Neg(state), bias)
    )
    with pytest.raises(ParityFailure) as failure:
        export(runs["sasrec-string"], tmp_path / "model.onnx", "int4+4", limits=LOOSE)
    (fault,) = failure.value.report.faults
    assert "of their 10 best items, below the limit 0.99" in fault.what
    assert list(tmp_path.iterdir()) == []


def test_the_same_run_gives_the_same_bytes(
    runs: dict[str, Run],
    rounded_files: dict[tuple[str, str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(build, "export_body", export_body)  # traced anew
    export(runs["sasrec-int64"], tmp_path / "again.onnx", "int8", limits=LOOSE)
    first = rounded_files["sasrec-int64", "unfolded", "int8"].read_bytes()
    assert (tmp_path / "again.onnx").read_bytes() == first


def refusal(session: onnxruntime.InferenceSession, feed: dict[str, Any]) -> str:
    try:
        session.run(None, feed)
    except Exception as error:
        return type(error).__name__
    return "answered"


def test_every_profile_refuses_the_same_calls(
    rounded_files: dict[tuple[str, str, str], Path],
    exported: dict[str, tuple[Path, Any]],
    runs: dict[str, Run],
) -> None:
    for name in RUNS:
        files = [
            exported[name][0],
            *(rounded_files[name, *kind] for kind in KINDS),
        ]
        sessions = [onnxruntime.InferenceSession(file.read_bytes()) for file in files]
        ids = runs[name].split.catalogue.item_ids[None, :3]
        right = {"history": ids, "exclude": ids[:, :0], "candidates": ids[:, :0]}
        right["k"] = np.array([3])
        calls = {
            "right": right,
            "floats": right | {"history": np.ones((1, 2), np.float32)},
            "one dimension": right | {"history": ids[0]},
            "rows of two sizes": right | {"exclude": np.repeat(ids, 2, axis=0)},
            "k is a float": right | {"k": np.array([3.0])},
            "k is a scalar": right | {"k": np.array(3)},
            "no history": {key: value for key, value in right.items() if key != "history"},
        }
        if name.endswith("int64"):
            calls["int32"] = right | {"history": np.array([[1, 2]], np.int32)}
            # As rows of the table these would be out of range, which not every operator refuses.
            calls["huge ids"] = right | {"history": np.array([[10**6, -(10**12), 2**62]])}
        for label, feed in calls.items():
            outcomes = {refusal(session, feed) for session in sessions}
            assert len(outcomes) == 1, (name, label, outcomes)
            assert (outcomes == {"answered"}) == (label in ("right", "huge ids")), (
                label,
                outcomes,
            )


# --- limits


def test_a_cost_above_the_limit_writes_nothing_and_keeps_the_older_file(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_vectors, "codes_of", lambda bits: (-2, 2))  # 5 levels
    target = tmp_path / "model.onnx"
    target.write_bytes(b"\x08\x0a\x12\x07attnrec, an older file")
    with pytest.raises(
        QuantizationCostTooHigh, match=r"overlap@10 is 0\.\d+, below the limit 0\.98"
    ) as error:
        export(runs["sasrec-string"], target, "int8")
    assert error.value.cost.overlap_10 < 0.98
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes().endswith(b"an older file")


def test_codes_that_are_not_those_of_the_table_do_not_pass_the_gate(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Codes.values
    for form, scanned_from in FORMS.items():
        monkeypatch.setattr(item_vectors, "SCANNED_FROM", scanned_from)
        # The file gets codes whose scales are off by a hundredth from those that the gate gets.
        monkeypatch.setattr(Codes, "values", lambda self: real(self) * np.float32(1.01))
        with pytest.raises(ParityFailure):
            export(runs["sasrec-string"], tmp_path / f"{form}.onnx", "int8", limits=LOOSE)
    assert list(tmp_path.iterdir()) == []


COST = QuantizationCost(1000, 0.99, 0.99, 0.5, ndcg_change=-0.01, ndcg_interval=(-0.02, -0.001))


@pytest.mark.parametrize(
    ("cost", "reason"),
    [
        (COST, "a loss above the limit 0.50%"),
        (replace(COST, ndcg_interval=(-0.02, 0.001)), None),  # chance alone explains it
        (replace(COST, ndcg_change=-0.004), None),
        (replace(COST, ndcg_change=0.05, ndcg_interval=(0.01, 0.09)), None),
        (replace(COST, overlap_10=0.9799), "overlap@10 is 0.9799, below the limit 0.98"),
        (replace(COST, ndcg_change=None, ndcg_interval=None), None),  # a final run
    ],
)
def test_a_loss_counts_where_it_is_large_and_not_chance(
    cost: QuantizationCost, reason: str | None
) -> None:
    found = cost.too_high("int8", Limits())
    assert (found is None) == (reason is None)
    assert reason is None or reason in str(found)
