"""The precision of the gate, and how it counts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from attnrec.export import ParityReport, build, export
from attnrec.export.facts import describe
from attnrec.export.parity.gate import check_parity
from attnrec.train import Run
from attnrec.train.evaluation.torch_recommender import TorchRecommender


def test_no_weight_can_be_off_by_a_thousandth(
    runs: dict[str, Run], body_of: Callable[[str], ir.Model]
) -> None:
    name = "sasrec-int64"
    run, original = runs[name], body_of(name)
    unnoticed = []
    for key, weight in original.graph.initializers.items():
        if not key.startswith("model."):
            continue  # shapes and axes
        assert weight.const_value is not None
        changed = weight.const_value.numpy().copy()
        changed.reshape(-1)[-1] += 1e-3  # of the keys' and values' bias, a value's
        body = original.clone()
        body.graph.initializers[key].const_value = ir.tensor(changed, name=key)
        graph = build.build_graph(run, body, build.exact_table(run))
        file = build.finish(graph, describe(run, {}, None, "fp32"))
        if not check_parity(file, run).n_faults:
            unnoticed.append(key)
    assert unnoticed == []


def test_the_gate_compares_every_test_user(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, scores, seen = runs["markov-chain-int64"], TorchRecommender.scores, set()

    def recorded(reference: TorchRecommender, histories: Any, *rest: Any) -> Any:
        seen.update(map(tuple, histories))
        return scores(reference, histories, *rest)

    monkeypatch.setattr(TorchRecommender, "scores", recorded)
    report = export(run, tmp_path / "model.onnx")
    users = run.split.held_out("test").histories
    assert report.n_test_users == len(users) > 40
    assert seen.issuperset(tuple(history.tolist()) for history in users)


def test_a_row_with_several_faults_counts_once() -> None:
    report = ParityReport()
    for row, what in [(0, "a score"), (0, "alone"), (1, "a score"), (0, "another call")]:
        report.add_fault("64 rows" if what != "another call" else "k = 3", row, what)
    assert report.n_faults == 3
    assert len(report.faults) == 4
