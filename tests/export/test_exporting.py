"""What can be exported, what is refused with a remedy, and the file of a final run."""

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from attnrec.export import ParityReport, export
from attnrec.runtime import Recommender, RunError
from attnrec.runtime.model_file.format import LONGEST
from attnrec.train import Run, TrainConfig, train, train_final
from attnrec.train.splits.split import Catalogue


def catalogue_of(ids: list[Any]) -> Catalogue:
    dtype = object if ids and isinstance(ids[0], str) else np.int64
    return Catalogue(np.array(ids, dtype=dtype), np.ones(len(ids), dtype=np.int64), None)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([3, -1, 4], r"holds the item id -1, which stands for padding; rename it"),
        (["a", "", "b"], r"holds the item id '', which stands for padding; rename it"),
        ([3, 4, 3], r"holds the item id 3 twice; rename one"),
        (["a", "b", "a"], r"holds the item id 'a' twice; rename one"),
        (["a", "b\ud800"], r"'b\\ud800', which is not valid Unicode; rename it"),
        ([], r"the catalogue is empty; train on"),
    ],
)
def test_a_catalogue_that_would_answer_wrongly_is_refused(ids: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        catalogue_of(ids).check()
    titles = np.array(["fine", "\udc00"], dtype=object)
    with pytest.raises(ValueError, match="not valid Unicode; rename it"):
        replace(catalogue_of([1, 2]), titles=titles).check()


def test_of_a_large_catalogue_the_repeated_id_is_found_at_once() -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match="holds the item id 299999 twice"):
        catalogue_of([*range(300_000), 299_999]).check()
    assert time.process_time() - started < 5  # comparing each with all before takes an hour


@pytest.mark.parametrize("ids", [["-1", " ", "b"], [0, -2, 2**63 - 1, -(2**63)]])
def test_ids_that_only_look_reserved_are_fine(ids: list[Any]) -> None:
    catalogue_of(ids).check()


def test_a_reserved_id_stops_an_export_before_anything_is_written(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    run = runs["popularity-string"]
    ids = run.split.catalogue.item_ids.copy()
    ids[3] = ""
    catalogue = replace(run.split.catalogue, item_ids=ids)
    broken = replace(run, split=replace(run.split, catalogue=catalogue))
    with pytest.raises(ValueError, match="stands for padding"):
        export(broken, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("name", "weight"),
    [("sasrec-string", "blocks.0.expand.weight"), ("popularity-string", "log_count")],
)
def test_a_weight_that_is_no_number_is_refused_by_name(
    name: str, weight: str, value: float, runs: dict[str, Run], tmp_path: Path
) -> None:
    broken = Run.load(runs[name].directory)
    with torch.no_grad():
        broken.model.state_dict()[weight].view(-1)[1] = value
    with pytest.raises(ValueError, match=rf"weight {weight} of .* NaN or infinity; train again"):
        export(broken, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_profile_and_a_missing_folder_are_refused(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no profile 'int3'; there are: fp32"):
        export(runs["popularity-string"], tmp_path / "model.onnx", profile="int3")
    with pytest.raises(ValueError, match=r"no profile 'auto'; .*`export_smallest` tries them"):
        export(runs["popularity-string"], tmp_path / "model.onnx", profile="auto")
    with pytest.raises(ValueError, match="missing is no folder; make it"):
        export(runs["popularity-string"], tmp_path / "missing" / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_the_users_that_were_compared(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    ticks: list[tuple[int, int]] = []
    run = runs["popularity-string"]
    export(run, tmp_path / "model.onnx", tick=lambda done, total: ticks.append((done, total)))
    n_users = len(run.split.held_out("test").histories)
    assert ticks[-1] == (n_users, n_users)


@pytest.mark.parametrize("name", ["popularity-string", "sasrec-int64"])
def test_the_file_of_a_final_run_keeps_the_held_out_figures_and_is_marked_final(
    name: str, runs: dict[str, Run], tmp_path: Path
) -> None:
    run = runs[name]
    final = train_final(run, out=tmp_path / "final")
    report = export(final, tmp_path / "final.onnx")
    info = Recommender.load(tmp_path / "final.onnx").info
    assert info.final
    assert info.metrics["valid"] == run.metrics["valid"]
    assert "before the held-out events" in info.metrics["of"]
    assert "test" not in info.metrics
    # Nothing is held back, so the gate asks every user.
    assert report.n_test_users == report.n_identical == run.split.interactions.n_users


def test_a_final_run_keeps_the_test_figures_of_the_file_before(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    run = replace(runs["popularity-string"], directory=tmp_path / "run")
    run.save()
    export(run, tmp_path / "run" / "model.onnx")
    measured = Recommender.load(tmp_path / "run" / "model.onnx").info.metrics["test"]
    final = train_final(run, out=tmp_path / "final")
    export(final, tmp_path / "final.onnx")
    info = Recommender.load(tmp_path / "final.onnx").info
    assert info.metrics["test"] == measured
    assert info.final and "before the held-out events" in info.metrics["of"]


def test_a_final_run_takes_no_figures_from_the_file_of_another_run(
    runs: dict[str, Run], exported: dict[str, tuple[Path, ParityReport]], tmp_path: Path
) -> None:
    run = replace(runs["popularity-string"], directory=tmp_path / "run")
    run.save()
    shutil.copy(exported["sasrec-string"][0], tmp_path / "run" / "model.onnx")
    with pytest.raises(RunError, match=r"is of another run; export .* again"):
        train_final(run, out=tmp_path / "final")
    assert not (tmp_path / "final").exists()


def test_a_catalogue_larger_than_any_list_of_a_call_is_exported(tmp_path: Path) -> None:
    n_items = LONGEST + 100
    log = pd.DataFrame(
        {
            "user_id": np.repeat(np.arange(20), n_items // 20),
            "item_id": np.arange(n_items),
            "timestamp": np.arange(n_items),
        }
    )
    run = train(log, TrainConfig("popularity"), out=tmp_path / "run")
    export(run, tmp_path / "model.onnx")
    assert Recommender.load(tmp_path / "model.onnx").info.n_items == n_items - 40


@pytest.mark.parametrize("name", ["model.onnx", "model.profiles.json"])
def test_what_cannot_be_replaced_is_refused_before_the_work(
    name: str, runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr("attnrec.export.exporting.FileBuilder", None)  # no work is begun
    with pytest.raises(ValueError, match=f"{name} is a folder; name a file"):
        export(runs["popularity-string"], tmp_path / "model.onnx")


@pytest.mark.parametrize("profile", ["fp32", "int8"])
def test_limits_of_another_kind_are_refused_in_every_profile(
    profile: str, runs: dict[str, Run], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="`limits` must be a Limits, not a float; write Limits"):
        export(runs["sasrec-int64"], tmp_path / "m.onnx", profile, limits=0.9)  # type: ignore
    assert not list(tmp_path.iterdir())
