"""The costs of profiles, and the smallest that keeps the limits."""

import json
from pathlib import Path

import numpy as np
import pytest

from attnrec.export import Limits, NoProfile, ProfileCost, export, export_smallest
from attnrec.runtime import Recommender
from attnrec.runtime.model_file.tensors import StoredTensors
from attnrec.train import Run

pytestmark = pytest.mark.usefixtures("equal_weights_are_traced_once")

EASY = Limits(min_overlap=0, max_ndcg_loss=1)


def by_profile(costs: list[ProfileCost]) -> dict[str, ProfileCost]:
    return {cost.profile: cost for cost in costs}


def test_the_smallest_file_that_keeps_the_limits_is_written_with_its_costs_beside_it(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    stages: list[str] = []
    report, found = export_smallest(runs["sasrec-string"], file, limits=EASY, stage=stages.append)
    costs = by_profile(found)
    assert report.n_faults == 0 and "measuring profiles" in stages
    assert costs["fp32"].file_mb > costs["int8"].file_mb > costs["int4"].file_mb
    assert costs["fp32"].table_mb > 3 * costs["int8"].table_mb > 3 * costs["int4"].table_mb
    assert Recommender.load(file).info.profile == "int4"
    assert file.stat().st_size == pytest.approx(1e6 * costs["int4"].file_mb, abs=1)
    assert costs["fp32"].cost is None and costs["int8"].cost is not None
    stored = json.loads(file.with_suffix(".profiles.json").read_text())
    assert stored["chosen"] == "int4"
    assert [cost["profile"] for cost in stored["profiles"]] == ["fp32", "int8", "int4"]


def test_the_largest_size_is_that_of_the_file_with_its_proof(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    run, file = runs["sasrec-string"], tmp_path / "model.onnx"
    export_smallest(run, file, ["int8"], limits=EASY)
    size = file.stat().st_size / 1e6
    assert export_smallest(run, file, ["int8"], limits=EASY, max_mb=size + 0.0005)
    with pytest.raises(NoProfile, match="above the limit"):
        export_smallest(run, tmp_path / "other.onnx", ["int8"], limits=EASY, max_mb=size - 0.0005)
    assert not (tmp_path / "other.onnx").exists()


def test_a_profile_above_a_limit_is_not_chosen(runs: dict[str, Run], tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    _, found = export_smallest(
        runs["sasrec-string"], file, limits=Limits(min_overlap=1.0, max_ndcg_loss=1)
    )
    costs = by_profile(found)
    assert Recommender.load(file).info.profile == "fp32"
    assert costs["fp32"].beyond is None
    assert "overlap@10" in str(costs["int4"].beyond)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (EASY, "the file has .* MB, above the limit 0.001"),
        (Limits(min_overlap=1, max_ndcg_loss=1), "below the limit 1, and the file has"),
    ],
)
def test_where_every_profile_exceeds_a_limit_nothing_is_written(
    limits: Limits, reason: str, runs: dict[str, Run], tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x0a\x12\x07attnrec, an older file")
    with pytest.raises(NoProfile, match=reason) as error:
        export_smallest(
            runs["sasrec-string"], tmp_path / "model.onnx", ["int4"], limits=limits, max_mb=0.001
        )
    assert [cost.profile for cost in error.value.costs] == ["int4"]
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_bytes().endswith(b"an older file")


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_mb", 0), ("max_mb", np.nan), ("min_overlap", 98), ("max_ndcg_loss", -0.1)],
)
def test_a_limit_that_nothing_can_keep_is_refused(
    name: str, value: float, runs: dict[str, Run], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=name):
        if name != "max_mb":
            Limits(**{name: value})
        else:
            export_smallest(runs["sasrec-string"], tmp_path / "model.onnx", **{name: value})
    assert list(tmp_path.iterdir()) == []


def test_figures_of_an_earlier_file_do_not_stay_beside_another(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    export_smallest(runs["sasrec-string"], file, ["int8"], limits=EASY)
    assert len(list(tmp_path.iterdir())) == 2
    export(runs["sasrec-string"], file)
    assert list(tmp_path.iterdir()) == [file]


def test_codes_of_four_bits_are_read_back_as_they_were_written(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    export_smallest(runs["sasrec-int64"], file, ["int4"], limits=EASY)
    codes = StoredTensors(file.read_bytes()).numbers("item_codes")
    assert codes.shape[0] == runs["sasrec-int64"].split.catalogue.n_items + 1
    assert codes.min() >= -8 and codes.max() <= 7 and len(np.unique(codes)) > 10
    recommender = Recommender.load(file)
    item = runs["sasrec-int64"].split.catalogue.item_ids[0]
    assert recommender.similar(int(item), k=3).item_ids
