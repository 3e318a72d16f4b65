"""The profiles int8 and int4: the same file with rounded weights, and the quantization cost."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import nn

from attnrec.export import (
    Limits,
    ParityFailure,
    QuantizationCost,
    QuantizationCostTooHigh,
    build,
    export,
)
from attnrec.export.build import FileBuilder, GraphParts, profiles_of
from attnrec.export.exporting import gate
from attnrec.export.graph.builder import GraphBuilder
from attnrec.export.graph.item_table import UnfoldedTable
from attnrec.export.graph.scanned_table import NESTED_CODES, NestedTable
from attnrec.export.graph.trace import export_body
from attnrec.export.parity.gate import check_parity
from attnrec.export.quantize import item_vectors
from attnrec.export.quantize.weights import round_weights
from attnrec.runtime import Recommender
from attnrec.train import Run

pytestmark = pytest.mark.usefixtures("equal_weights_are_traced_once")

# Ten of forty items are a quarter of them: what is a near tie here is far apart in a shop.
LOOSE = Limits(min_overlap=0.95, max_ndcg_loss=1)
RUNS = ("sasrec-string", "sasrec-int64")
ROUNDED = {"unfolded": ("int8", "int4"), "scanned": ("int8", "int4+4", "int4")}
KINDS = [(form, profile) for form, profiles in ROUNDED.items() for profile in profiles]
LIMITS = dict.fromkeys(ROUNDED["scanned"], LOOSE) | {
    "int4": Limits(min_overlap=0.7, max_ndcg_loss=1)
}


@pytest.fixture(scope="module")
def forms(runs: dict[str, Run], large_runs: dict[str, Run]) -> dict[str, dict[str, Run]]:
    """Runs by the form of their rounded tables, which their catalogues decide."""
    return {"unfolded": runs, "scanned": large_runs}


@pytest.fixture(scope="module")
def rounded_files(
    forms: dict[str, dict[str, Run]], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str, str], Path]:
    """Both runs in both forms and profiles, by (run, form, profile)."""
    directory = tmp_path_factory.mktemp("rounded")
    files = {}
    for name, (form, profile) in product(RUNS, KINDS):
        file = files[name, form, profile] = directory / f"{name}-{form}-{profile}.onnx"
        export(forms[form][name], file, profile, limits=LIMITS[profile])
    return files


@pytest.fixture(scope="module")
def rounded_runs(forms: dict[str, dict[str, Run]]) -> dict[tuple[str, str], Run]:
    """The runs with the weights that their rounded files have, by (run, form)."""
    return {
        (name, form): GraphParts.of(forms[form][name]).rounded().run
        for name, form in product(RUNS, forms)
    }


@pytest.fixture(params=[(run, *kind) for run in RUNS for kind in KINDS], ids="-".join)
def made(
    request: pytest.FixtureRequest,
    rounded_files: dict[tuple[str, str, str], Path],
    rounded_runs: dict[tuple[str, str], Run],
) -> tuple[Run, Path, str]:
    """A run with rounded weights, its file and the profile of it, in turn."""
    run, form, profile = request.param
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
    enlarged: Callable[[str, int], Run], tmp_path: Path
) -> None:
    run = enlarged("sasrec-string", 24)
    assert isinstance(item_vectors.rounded_table(run, "int8"), UnfoldedTable)
    with pytest.raises(ValueError, match=r"100,001 items of 24\. int8 has the same quality"):
        export(run, tmp_path / "model.onnx", "int4+4")


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
    if run.split.catalogue.n_items == 40:  # among so many untrained items there is no hit
        assert info.metrics["test"]["ndcg@10"] > 0


def test_the_recall_of_a_scan_is_in_the_file(
    rounded_files: dict[tuple[str, str, str], Path],
) -> None:
    for (_, form, _), file in rounded_files.items():
        info = Recommender.load(file).info
        assert info.parity is not None
        found = info.parity.get("scan", {})
        assert found.keys() == ({"found@10", "found@100"} if form == "scanned" else set())
        assert all(0.99 <= share <= 1 for share in found.values())


def test_in_a_large_catalogue_only_what_grows_with_it_is_rounded(
    forms: dict[str, dict[str, Run]], rounded_runs: dict[tuple[str, str], Run]
) -> None:
    def changed(exact: nn.Module, rounded: nn.Module) -> set[str]:
        before, after = exact.state_dict(), rounded.state_dict()
        return {name for name in before if not torch.equal(before[name], after[name])}

    # Only its item vectors grow, which are the table of a profile.
    large, small = forms["scanned"]["sasrec-string"], forms["unfolded"]["sasrec-string"]
    assert changed(large.model, rounded_runs["sasrec-string", "scanned"].model) == set()
    assert changed(small.model, rounded_runs["sasrec-string", "unfolded"].model)
    rounded = round_weights(small.model, GraphParts.of(small).parts(), least_rows=41)
    assert changed(small.model, rounded) == {
        f"blocks.{n}.expand.weight" for n in range(small.model.config.n_blocks)
    }


@pytest.mark.parametrize("profile", ROUNDED["scanned"])
def test_what_a_short_scan_misses_is_counted_and_the_rest_is_exact(
    profile: str, large_runs: dict[str, Run]
) -> None:
    builder = FileBuilder(large_runs["sasrec-string"])
    table = item_vectors.rounded_table(builder.run, profile)
    table.scan_depth = 0  # 20 items for the 10 best
    made = builder.with_table(profile, table)
    report = check_parity(made.file, made.run, item_table=made.table.values, is_scanned=True)
    assert report.found is not None and 0.9 < report.found.share(10) <= 1
    assert [fault for fault in report.faults if "scan finds" not in fault.what] == []
    assert report.largest_share <= 1


class Backwards(NestedTable):
    """Its scan finds the items that are the least like the state."""

    def project(self, g: GraphBuilder, state: ir.Value, bias: ir.Value) -> ir.Value:
        return super().project(g, g.Neg(state), bias)


def test_a_scan_that_finds_too_little_does_not_pass_the_gate(large_runs: dict[str, Run]) -> None:
    builder = FileBuilder(large_runs["sasrec-string"])
    vectors = builder.run.model.item_table().detach().numpy()
    no_states = np.empty((0, 16), np.float32)
    table = Backwards(item_vectors.quantize(vectors, no_states, 16, between=NESTED_CODES))
    with pytest.raises(ParityFailure) as failure:
        gate(builder.with_table("int4+4", table), None)
    (fault,) = failure.value.report.faults
    assert "of their 10 best items, below the limit 0.99" in fault.what


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
    large_runs: dict[str, Run], tmp_path: Path
) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"\x08\x0a\x12\x07attnrec, an older file")
    with pytest.raises(
        QuantizationCostTooHigh, match=r"overlap@10 is 0\.\d+, below the limit 0\.9,"
    ) as error:
        export(large_runs["sasrec-string"], target, "int4")
    assert error.value.cost.overlap_10 < 0.9
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes().endswith(b"an older file")


@pytest.mark.parametrize("form", ROUNDED)
def test_codes_that_are_not_those_of_the_table_do_not_pass_the_gate(
    form: str, forms: dict[str, dict[str, Run]]
) -> None:
    builder = FileBuilder(forms[form]["sasrec-string"])
    table = item_vectors.rounded_table(builder.run, "int8")
    table.values = table.values * np.float32(1.01)  # what the gate gets; the file gets the codes
    with pytest.raises(ParityFailure):
        gate(builder.with_table("int8", table), None)


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
