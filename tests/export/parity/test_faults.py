"""Faults that only a SASRec or the head can have, seeded into the exporter, are found by the gate.

The torch model that the gate compares with is never touched. Faults that every model can have are
in tests/contract/fault_table.py.
"""

import copy
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from exporter_faults import (
    exclude_ignored,
    of_kind,
)
from torch import Tensor

from attnrec.cli.main import export as export_script
from attnrec.export import ParityFailure, build, export
from attnrec.export.graph import contract
from attnrec.export.graph.builder import GraphBuilder
from attnrec.export.graph.item_table import FloatTable
from attnrec.export.graph.trace import export_body
from attnrec.train import Run
from attnrec.train.models.sasrec import SASRec

Patch = pytest.MonkeyPatch
BodyOf = Callable[[str], ir.Model]


# --- faults of the body: the exporter sees another model


def weights_changed(model: SASRec, name: str, change: Callable[[Tensor], Tensor]) -> SASRec:
    """A copy of the model with one weight replaced."""
    altered = copy.deepcopy(model)
    weight = altered.get_parameter(name)
    with torch.no_grad():
        weight.copy_(change(weight.clone()))
    return altered


def positions_shifted(model: SASRec) -> SASRec:
    return weights_changed(model, "position_embedding.weight", lambda w: w.roll(1, dims=0))


class ScaleMissing(SASRec):
    def embed(self, item_vectors: Tensor, known: Tensor, added: Tensor | None = None) -> Tensor:
        return super().embed(item_vectors / math.sqrt(self.config.hidden_dim), known, added)


class PaddingVisible(SASRec):
    def visible(self, known: Tensor) -> Tensor:
        return super().visible(torch.ones_like(known))


class PlacesFromTheOldest(SASRec):
    """Padding moves the items along, as in the SASRec of the paper."""

    def embed(self, item_vectors: Tensor, known: Tensor, added: Tensor | None = None) -> Tensor:
        x = super().embed(item_vectors, known, added)
        place = torch.arange(known.shape[1] - 1, -1, -1)
        right, wrong = self.position_embedding(place), self.position_embedding(place.flip(0))
        return x + (wrong - right) * known.unsqueeze(-1)


# --- faults of the head: a function of the contract is replaced


def one_event_too_few_counts(patch: Patch) -> None:
    real = contract.compact
    patch.setattr(contract, "compact", lambda g, rows, max_len: real(g, rows, max_len - 1))


def one_event_too_many_counts(patch: Patch) -> None:
    real = contract.compact
    patch.setattr(contract, "compact", lambda g, rows, max_len: real(g, rows, max_len + 1))


def known_ids_counted_after_the_cut(patch: Patch) -> None:
    real = contract.compact

    def recounted(g: GraphBuilder, rows: Any, max_len: int) -> Any:
        place, _ = real(g, rows, max_len)
        return place, g.ReduceSum(g.Sign(place(rows, 0)), [1], keepdims=0)

    patch.setattr(contract, "compact", recounted)


def unknown_ids_keep_their_place(patch: Patch) -> None:
    def uncompacted(g: GraphBuilder, rows: Any, max_len: int) -> Any:
        def newest(values: Any, _: int) -> Any:
            return g.Slice(values, [-max_len], [2**62], [1])

        return newest, g.ReduceSum(g.Sign(rows), [1], keepdims=0)

    patch.setattr(contract, "compact", uncompacted)


def titles_of_others(patch: Patch) -> None:
    real = contract.assemble

    def retitled(body: Any, table: Any, catalogue: Any, *rest: Any) -> Any:
        mixed = replace(catalogue, titles=np.roll(catalogue.titles, 1))
        return real(body, table, mixed, *rest)

    patch.setattr(build, "assemble", retitled)


def table_as_it_was_learned(patch: Patch) -> None:
    def learned(run: Run) -> FloatTable:
        return FloatTable(run.model.get_parameter("item_embedding.weight").detach().numpy())

    patch.setattr(build, "exact_table", learned)


@dataclass(frozen=True)
class Seeded:
    """A fault and the clause of the gate that finds it."""

    name: str
    clause: str
    model: Callable[[SASRec], SASRec] | None = None
    head: Callable[[Patch], None] | None = None
    run: str = "sasrec-string"


A_SCORE = r"a score is off by"
NOT_ALLOWED = r"an item that may not be returned, or one twice"
EXCLUDE_IGNORED = Seeded("exclude ignored", NOT_ALLOWED, head=exclude_ignored)
FAULTS = [
    Seeded("positions shifted by one", A_SCORE, positions_shifted),
    Seeded("scale missing", A_SCORE, lambda m: of_kind(ScaleMissing, m)),
    EXCLUDE_IGNORED,
    Seeded("places from the oldest", A_SCORE, lambda m: of_kind(PlacesFromTheOldest, m)),
    Seeded("table not normalised", A_SCORE, head=table_as_it_was_learned),
    Seeded("one event too few counts", A_SCORE, head=one_event_too_few_counts),
    Seeded("one event too many counts", A_SCORE, head=one_event_too_many_counts),
    Seeded("unknown ids keep their place", "cannot answer", head=unknown_ids_keep_their_place),
    Seeded("n_known after the cut", "n_known is", head=known_ids_counted_after_the_cut),
    Seeded("titles of others", NOT_ALLOWED, head=titles_of_others),
]


def seed_fault(fault: Seeded, run: Run, body_of: BodyOf, patch: Patch) -> None:
    """Put the fault into the exporter."""
    body = body_of(fault.run) if fault.model is None else export_body(fault.model(run.model))
    patch.setattr(build, "export_body", lambda _: body.clone())
    if fault.head is not None:
        fault.head(patch)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_seeded_fault_is_refused_and_nothing_is_written(
    fault: Seeded, runs: dict[str, Run], body_of: BodyOf, monkeypatch: Patch, tmp_path: Path
) -> None:
    run, target = runs[fault.run], tmp_path / "model.onnx"
    seed_fault(fault, run, body_of, monkeypatch)

    with pytest.raises(ParityFailure, match="nothing was written") as failure:
        export(run, target)
    report = failure.value.report
    assert report.n_faults >= len(report.faults) > 0
    assert any(fault.clause in found.what for found in report.faults)
    assert list(tmp_path.iterdir()) == []

    target.write_bytes(b"\x08\x0a\x12\x07attnrec, an older file")
    with pytest.raises(ParityFailure):
        export(run, target)
    assert target.read_bytes().endswith(b"an older file")
    assert list(tmp_path.iterdir()) == [target]


def test_without_a_fault_the_same_way_leads_to_a_file(
    runs: dict[str, Run], body_of: BodyOf, monkeypatch: Patch, tmp_path: Path
) -> None:
    body = body_of("sasrec-string")
    monkeypatch.setattr(build, "export_body", lambda _: body.clone())
    assert export(runs["sasrec-string"], tmp_path / "model.onnx").n_faults == 0
    assert (tmp_path / "model.onnx").exists()


def test_the_command_prints_the_calls_that_differ_and_exits_with_1(
    runs: dict[str, Run],
    body_of: BodyOf,
    monkeypatch: Patch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed_fault(EXCLUDE_IGNORED, runs["sasrec-string"], body_of, monkeypatch)
    target = tmp_path / "model.onnx"
    arguments = ["attnrec-export", str(runs["sasrec-string"].directory), "--out", str(target)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stopped:
        export_script()
    assert stopped.value.code == 1
    printed = capsys.readouterr().err
    assert "Where the file differs from the torch model" in printed
    assert "exclude the history" in printed and "more than the 35 items" in printed
    assert "nothing was written" in printed
    assert list(tmp_path.iterdir()) == []
