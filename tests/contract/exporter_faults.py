"""Faults that an exporter can have, put into it one at a time; the torch model stays as it is.

A fault of the head replaces a function of the contract; a fault of the body changes its graph.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from attnrec.export.graph import contract, top_k
from attnrec.export.graph.builder import GraphBuilder
from attnrec.train.models.sasrec import SASRec

Patch = pytest.MonkeyPatch
_NUMBERS = count(10**6)  # names that the head does not use

# --- the head


def ids_shifted_on_the_way_in(patch: Patch) -> None:
    real = contract.rows_of_ids

    def shifted(g: GraphBuilder, inputs: Any, catalogue: Any) -> Any:
        return real(g, inputs, replace(catalogue, item_ids=np.roll(catalogue.item_ids, 1)))

    patch.setattr(contract, "rows_of_ids", shifted)


def ids_shifted_on_the_way_out(patch: Patch) -> None:
    real = contract.ids_of_rows

    def shifted(g: GraphBuilder, rows: Any, catalogue: Any) -> Any:
        return real(g, rows, replace(catalogue, item_ids=np.roll(catalogue.item_ids, 1)))

    patch.setattr(contract, "ids_of_rows", shifted)


def last_event_dropped(patch: Patch) -> None:
    real = contract.compact

    def shorter(g: GraphBuilder, rows: Any, max_len: int) -> Any:
        place, n_known = real(g, rows, max_len)

        def place_without_last(values: Any, padding: int) -> Any:
            kept = place(values, padding)
            nothing = g.Expand(padding, g.Concat(g.Shape(kept, start=0, end=1), [1], axis=0))
            return g.Concat(nothing, g.Slice(kept, [0], [-1], [1]), axis=1)

        return place_without_last, n_known

    patch.setattr(contract, "compact", shorter)


def exclude_ignored(patch: Patch) -> None:
    real = top_k._ban
    patch.setattr(top_k, "_ban", lambda g, scores, rows: real(g, scores, g.Mul(rows, 0)))


def candidates_ignored(patch: Patch) -> None:
    real = contract.rows_of_ids

    def none_listed(g: GraphBuilder, *given: Any) -> Any:
        return replace(real(g, *given), n_candidates=g.Mul(g.constant(np.array([1])), 0))

    patch.setattr(contract, "rows_of_ids", none_listed)


def later_rows_first(patch: Patch) -> None:
    def backwards(g: GraphBuilder, scores: Any, k: Any, n_rows: int) -> Any:
        reversed_scores = g.Slice(scores, [-1], [-(2**62)], [1], [-1])
        best, places = g.TopK(reversed_scores, k, axis=-1, largest=1, sorted=1, outputs=2)
        return best, g.Sub(n_rows - 1, places)

    patch.setattr(top_k, "_of_all", backwards)


def _users_changed(patch: Patch, change: Callable[[Any], dict[str, Any]]) -> None:
    real = contract.rows_of_caller
    patch.setattr(
        contract,
        "rows_of_caller",
        lambda g, inputs, users: real(g, inputs, replace(users, **change(users))),
    )


def users_shifted(patch: Patch) -> None:
    _users_changed(patch, lambda users: {"ids": np.roll(users.ids, 1)})


def given_tags_ignored(patch: Patch) -> None:
    _users_changed(patch, lambda users: {"tags": tuple(f"no {tag}" for tag in users.tags)})


def stored_tags_ignored(patch: Patch) -> None:
    _users_changed(patch, lambda users: {"tag_rows": np.zeros_like(users.tag_rows)})


# --- the body


def one_weight_off(body: ir.Model) -> None:
    """The largest number of a weight is off by a thousandth, of itself where it is above 1."""
    name, weight = next(weights_of(body))
    changed = weight.copy()
    at = np.abs(changed).argmax()
    changed.flat[at] += 1e-3 * max(1.0, abs(float(changed.flat[at])))
    body.graph.initializers[name].const_value = ir.tensor(changed, name=name)


def weights_of(body: ir.Model) -> Any:
    """Name and numbers of the weights, and of what the exporter made of them."""
    for name, value in body.graph.initializers.items():
        assert value.const_value is not None
        numbers = value.const_value.numpy()
        if numbers.dtype == np.float32 and numbers.ndim:
            yield name, numbers


def wrong_epsilon(body: ir.Model) -> None:
    norms = [node for node in body.graph if node.op_type == "LayerNormalization"]
    assert norms
    for node in norms:
        node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 1e-3)


def input_changed(
    body: ir.Model, name: str, change: Callable[[GraphBuilder, ir.Value], ir.Value]
) -> None:
    """The body computes with something else than what the head gives it."""
    g = GraphBuilder(_NUMBERS)
    given = next(value for value in body.graph.inputs if value.name == name)
    users = list(given.uses())
    changed = change(g, given)
    for use in users:
        use.node.replace_input_with(use.idx, changed)
    for value in g.initializers.values():
        body.graph.initializers.add(value)
    body.graph.insert_before(body.graph[0], g.nodes)


def padding_visible(body: ir.Model) -> None:
    """Padding is taken for events: of row 0, or, where that counts for nothing, of row 1."""
    if any(value.name == "known" for value in body.graph.inputs):
        input_changed(body, "known", lambda g, known: g.Equal(known, known))
    else:
        input_changed(body, "history_index", lambda g, rows: g.Max(rows, 1))


def state_of_the_event_before(body: ir.Model) -> None:
    """The newest event is cut off, except where it is the only one."""
    given_names = {value.name for value in body.graph.inputs}
    for name in given_names & {"item_vectors", "known", "timestamps"}:

        def without_the_last(g: GraphBuilder, given: ir.Value) -> ir.Value:
            width = g.Shape(given, start=1, end=2)
            shorter: ir.Value = g.Slice(given, [0], g.Max(g.Sub(width, 1), 1), [1])
            return shorter

        input_changed(body, name, without_the_last)


def request_time_ignored(body: ir.Model) -> None:
    """Every request comes at one time."""
    input_changed(body, "request_time", lambda g, time: g.Mul(time, 0))


def times_of_other_events(body: ir.Model) -> None:
    """The times stand in the opposite order."""
    input_changed(body, "timestamps", lambda g, times: g.Slice(times, [-1], [-(2**62)], [1], [-1]))


def attention_of_older_events(body: ir.Model) -> None:
    """The weights stand in the opposite order."""
    g = GraphBuilder(_NUMBERS)
    backwards = g.Slice(body.graph.outputs[1], [-1], [-(2**62)], [1], [-1])
    for value in g.initializers.values():
        body.graph.initializers.add(value)
    body.graph.extend(g.nodes)
    body.graph.outputs[1] = backwards


# --- another model


def of_kind(kind: type[SASRec], model: SASRec) -> SASRec:
    """The same weights in a model that computes otherwise."""
    altered = kind(model.config)
    altered.load_state_dict(model.state_dict())
    return altered


class CausalMaskOff(SASRec):
    def visible(self, known: torch.Tensor) -> torch.Tensor:
        own = torch.eye(known.shape[1], dtype=torch.bool)
        return (known.unsqueeze(1) | own).unsqueeze(1)


def causal_mask_off(model: SASRec) -> SASRec:
    return of_kind(CausalMaskOff, model)


def zeroed(model: torch.nn.Module) -> torch.nn.Module:
    """All weights are 0, in place: every item has the same score."""
    with torch.no_grad():
        for weight in model.state_dict().values():
            weight.zero_()
    return model
