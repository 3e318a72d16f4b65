"""From a run to an unproved file of each profile, with one pass of the exporter."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir

from attnrec.export.facts import describe
from attnrec.export.graph.contract import assemble
from attnrec.export.graph.item_table import FloatTable, ItemTable
from attnrec.export.graph.trace import export_added, export_body
from attnrec.export.graph.trend import trend_of
from attnrec.export.item_rules import ItemRules
from attnrec.export.quantize.item_vectors import block_of, rounded_table
from attnrec.export.quantize.weights import pack_indexes, round_weights
from attnrec.export.refusals import NESTED, PROFILES
from attnrec.runtime.model_file import format as names
from attnrec.runtime.model_file.facts import ModelInfo
from attnrec.runtime.recommender import Recommender
from attnrec.runtime.session import make_session
from attnrec.train.models.base import TableModel
from attnrec.train.runs.run import Run

# Not for the file: the report holds histories.
_STAY_IN_RUN = {"epochs", "held_out_epochs", "recipe", "report", "tuning"}


@dataclass(frozen=True)
class GraphParts:
    """A model and its traced parts."""

    run: Run
    body: ir.Model
    added: ir.Model | None
    rules: ItemRules | None

    @classmethod
    def of(cls, run: Run, rules: ItemRules | None = None) -> "GraphParts":
        """The model as it was trained."""
        source = cls(run, export_body(run.model), export_added(run.model), rules)
        for part in source.parts():
            pack_indexes(part)
        return source

    def rounded(self) -> "GraphParts":
        """The same with 8-bit weights; for a large catalogue only weights that grow with it."""
        codes = replace(self, body=self.body.clone(), added=self.added and self.added.clone())
        is_large = block_of(self.run, "int8") is not None
        least_rows = self.run.split.catalogue.n_items if is_large else 0
        model = round_weights(self.run.model, codes.parts(), least_rows)
        return replace(codes, run=replace(self.run, model=model))

    def parts(self) -> list[ir.Model]:
        """The traced parts, to be changed in place."""
        return [self.body] if self.added is None else [self.body, self.added]


@dataclass(frozen=True)
class UnprovedFile:
    """A file that the gate has not yet passed."""

    profile: str
    run: Run
    """With the model that the file has to answer like, except for its table."""
    table: ItemTable | None
    rules: ItemRules | None
    graph: bytes
    file: bytes
    """The graph with the facts so far, sealed."""

    def recommender(self) -> Recommender:
        """A recommender over the file in memory."""
        return Recommender.from_session(make_session(self.file))


class FileBuilder:
    """A run in every profile, from one pass of the exporter."""

    def __init__(self, run: Run, rules: ItemRules | None = None) -> None:
        self.run, self.rules = run, rules
        self._exact = GraphParts.of(run, rules)

    @property
    def metrics(self) -> dict[str, Any]:
        """Figures of the run that go into its files."""
        figures = self.run.metrics.to_json()
        return {n: value for n, value in figures.items() if n not in _STAY_IN_RUN}

    def of(self, profile: str) -> UnprovedFile:
        """The file of a profile."""
        if profile == "fp32":
            return self.with_table(profile, exact_table(self.run))
        return self.with_table(profile, rounded_table(self._rounded.run, profile))

    def with_table(self, profile: str, table: ItemTable | None) -> UnprovedFile:
        """The same with a table in another form."""
        source = self._exact if profile == "fp32" else self._rounded
        graph = build_graph(source.run, source.body, table, source.added, source.rules)
        file = finish(graph, describe(self.run, self.metrics, None, profile, self.rules))
        return UnprovedFile(profile, source.run, table, self.rules, graph, file)

    @cached_property
    def _rounded(self) -> GraphParts:
        return self._exact.rounded()


def profiles_of(run: Run) -> list[str]:
    """The profiles that a run can be exported in."""
    if not isinstance(run.model, TableModel):
        return ["fp32"]
    return [p for p in PROFILES if p != NESTED or block_of(run, p) is not None]


def exact_table(run: Run) -> FloatTable | None:
    """The item vectors as they were trained; None for a model without."""
    if not isinstance(run.model, TableModel):
        return None
    return FloatTable(np.ascontiguousarray(run.model.item_table().detach().numpy()))


def build_graph(
    run: Run,
    body: ir.Model,
    table: ItemTable | None,
    added: ir.Model | None = None,
    rules: ItemRules | None = None,
) -> bytes:
    """The self-contained graph without any facts, as the bytes of an ONNX model."""
    max_len = run.model.config.max_len
    users, declared = run.split.users, run.model.inputs
    added = None if added is None else added.clone()
    trend = trend_of(run.model)
    model = assemble(
        body.clone(), table, run.split.catalogue, max_len, users, declared, added, rules, trend
    )
    serialized: bytes = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    return serialized


def finish(graph: bytes, info: ModelInfo, golden: str | None = None) -> bytes:
    """Append facts and seal; the bytes of the graph stay those that the gate has passed."""
    entries = info.to_metadata()
    if golden is not None:
        entries[names.GOLDEN_KEY] = golden
    facts = b"".join(names.metadata_entry(key, value) for key, value in entries.items())
    return names.seal(graph + facts)
