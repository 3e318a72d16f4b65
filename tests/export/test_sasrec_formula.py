"""SASRec beside its formula, item by item and head by head, in training and as a file."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnrec.export import export
from attnrec.runtime import Recommender
from attnrec.train import TrainConfig, train
from attnrec.train.models.sasrec import SASRec
from attnrec.train.models.sasrec_recency import RecencyConfig, RecencySASRec

Weights = dict[str, Tensor]
N_ITEMS, MAX_LEN, NOW = 9, 6, 1_700_000_000

pytestmark = pytest.mark.usefixtures("operators_read_once")


def plain_table(model: SASRec) -> Tensor:
    table = model.state_dict()["item_embedding.weight"]
    return table / table.norm(dim=1, keepdim=True) if model.config.logits == "cosine" else table


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return w[f"{name}.weight"] @ x + w.get(f"{name}.bias", torch.tensor(0.0))


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    x = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def on_sphere(x: Tensor) -> Tensor:
    return x / x.norm()


def plain_states(model: SASRec, rows: list[int], gaps: "Gaps") -> list[Tensor]:
    """What follows each of the rows; row 0 is the start token."""
    w, c, table = model.state_dict(), model.config, plain_table(model)
    seen = [[s for s in range(t + 1) if rows[s]] or [t] for t in range(len(rows))]
    x = [math.sqrt(c.hidden_dim) * table[row] for row in rows]
    for t in (t for t, row in enumerate(rows) if row):
        x[t] = x[t] + w["position_embedding.weight"][len(rows) - 1 - t] + gaps.of_event(t)
    for number in range(c.n_blocks):
        x = plain_block(model, number, x, seen, gaps)
    states = [norm(w, "final_norm", v) for v in x]
    for t in range(len(rows) if c.decayed_history else 0):
        decayed = torch.zeros(c.hidden_dim)
        if rows[t]:
            scores = [w["recency"][t - s] + gaps.of_pair(-1, t, s) for s in seen[t]]
            weights = torch.stack(scores).softmax(dim=0)
            decayed = sum(a * table[rows[s]] for a, s in zip(weights, seen[t], strict=True))
        states[t] = on_sphere(states[t]) + w["sum_share"] * linear(w, "sum_map", decayed)
    return [(on_sphere(v) if c.logits == "cosine" else v) / c.temperature for v in states]


def plain_block(
    model: SASRec, number: int, x: list[Tensor], seen: list[list[int]], gaps: "Gaps"
) -> list[Tensor]:
    """Attention head by head, then the feed-forward network, each added to what was there."""
    w, c, b = model.state_dict(), model.config, f"blocks.{number}"
    normed = [norm(w, f"{b}.attention_norm", v) for v in x]
    queries = [linear(w, f"{b}.query", v) for v in normed]
    key, value = zip(*(linear(w, f"{b}.key_value", v).chunk(2) for v in normed), strict=True)
    timed = number - c.n_blocks + min(c.timed_blocks, c.n_blocks)  # counted from the first timed
    after = []
    for t, old in enumerate(x):
        heads = []
        for h, d in enumerate(torch.arange(c.hidden_dim).chunk(c.n_heads)):
            scores = [queries[t][d] @ key[s][d] / math.sqrt(len(d)) for s in seen[t]]
            table = timed * c.n_heads + h
            prior = [gaps.of_pair(table, t, s) if timed >= 0 else 0.0 for s in seen[t]]
            weights = (torch.stack(scores) + torch.tensor(prior)).softmax(dim=0)
            heads.append(sum(a * value[s][d] for a, s in zip(weights, seen[t], strict=True)))
        news = linear(w, f"{b}.attention_output", torch.cat(heads))
        new = old + news
        small = norm(w, f"{b}.feed_forward_norm", new)
        wide = linear(w, f"{b}.expand", small)
        gelu = wide * (1 + torch.erf(wide / math.sqrt(2))) / 2
        after.append(new + linear(w, f"{b}.contract", gelu))
    return after


class Gaps:
    """What the time between an event and a request adds, read from the tables of a model."""

    def __init__(self, model: SASRec, times: Sequence[int], request_time: int) -> None:
        """request_time: below 0 it is unknown, and so is every time."""
        self.times = times
        self.asked = [*times[1:], request_time]
        self.is_known = request_time >= 0
        tables = model.state_dict() if model.config.time_gaps else {}
        self.pair = tables.get("time_gaps.of_pair")
        self.event = tables.get("time_gaps.of_event")

    def of_event(self, t: int) -> Any:
        return 0 if self.event is None else self._between(self.event, t, t)

    def of_pair(self, table: int, t: int, s: int) -> float:
        return 0.0 if self.pair is None else float(self._between(self.pair[table], t, s))

    def _between(self, table: Tensor, t: int, s: int) -> Tensor:
        """Row 0: unknown; then gaps of 0, 0 and up, 3, 15, 63 s ...; linear in the logarithm."""
        if not self.is_known or self.asked[t] < 0 or self.times[s] < 0:
            return table[0]
        gap = max(0, self.asked[t] - self.times[s])
        place = min(16.0, math.log2(1 + gap) / 2 + 1) if gap else 0.0
        low = min(int(place), 15)
        return table[low + 1] + (place - low) * (table[low + 2] - table[low + 1])


def shake(model: SASRec) -> None:
    """Far from its first weights, where norms do nothing and gaps add nothing."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)


@given(
    st.builds(
        RecencyConfig,
        st.just(N_ITEMS),
        st.just(MAX_LEN),
        st.just(8),
        n_blocks=st.integers(1, 3),
        n_heads=st.sampled_from([1, 2, 4]),
        logits=st.sampled_from(["cosine", "dot"]),
        temperature=st.sampled_from([0.07, 1.5]),
        decayed_history=st.booleans(),
        time_gaps=st.booleans(),
        timed_blocks=st.integers(1, 3),
    ),
    st.lists(st.integers(1, N_ITEMS), max_size=MAX_LEN - 1),
    st.lists(st.integers(0, 10**7), min_size=MAX_LEN, max_size=MAX_LEN),
    st.sampled_from([-1, 0, 50]),
    st.integers(0, 2**32),
)
@settings(max_examples=30)
def test_in_training_every_position_follows_the_formula(
    config: RecencyConfig, history: list[int], steps: list[int], pause: int, seed: int
) -> None:
    torch.manual_seed(seed)
    model = RecencySASRec(config).eval()
    shake(model)
    rows = [0, *history]
    times = [-1, *(NOW + int(n) for n in np.cumsum(steps))][: len(rows)]
    asked_at = -1 if pause < 0 else times[-1] + pause + 1
    index = torch.tensor([rows])
    context = {"timestamps": torch.tensor([times]), "request_time": torch.tensor([asked_at])}
    expected = plain_states(model, rows, Gaps(model, times, asked_at))
    models: list[SASRec] = [model]
    if not (config.decayed_history or config.time_gaps):  # then it is the class of the paper
        models.append(SASRec(config).eval())
        models[1].load_state_dict(model.state_dict())
    for same in models:
        with torch.no_grad():
            vectors = torch.nn.functional.embedding(index, same.item_table())
            found = same.states(vectors, index > 0, **(context if config.time_gaps else {}))[0]
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "shape",
    [
        {"n_blocks": 1, "n_heads": 1, "logits": "dot", "temperature": 1.0},
        {"n_blocks": 3, "n_heads": 4},
        {"n_heads": 2, "decayed_history": True, "time_gaps": True},
        {"n_blocks": 3, "decayed_history": True, "time_gaps": True, "timed_blocks": 2},
    ],
    ids=str,
)
def test_an_exported_file_scores_by_the_formula(shape: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    events = [(user, int(rng.integers(20)), NOW + 100 * n) for user in range(30) for n in range(8)]
    log = pd.DataFrame(events, columns=["user_id", "item_id", "timestamp"])
    chosen = TrainConfig("sasrec", {"hidden_dim": 8, "max_len": MAX_LEN, **shape}, epochs=1)
    run = train(log, chosen, out=tmp_path / "run")
    assert isinstance(run.model, SASRec)
    torch.manual_seed(0)
    shake(run.model)
    export(run, tmp_path / "model.onnx")
    recommender = Recommender.load(tmp_path / "model.onnx")
    ids = run.split.catalogue.item_ids.tolist()
    for history in ([], ids[:1], ids[:3], [ids[0], 999, ids[0]], [*ids[5:], *ids[:5]]):
        times = [NOW + 7 * n**3 for n in range(len(history))]
        when = {"timestamps": times, "request_time": NOW + 10_000} if "time_gaps" in shape else {}
        answer = recommender.recommend(history, len(ids), exclude_seen=False, **when)
        rows = [ids.index(item) + 1 for item in history if item in ids][-MAX_LEN:]
        known = [at for item, at in zip(history, times, strict=True) if item in ids][-MAX_LEN:]
        gaps = Gaps(run.model, known or [-1], NOW + 10_000)
        state = plain_states(run.model, rows or [0], gaps)[-1]
        expected = dict(zip(ids, (plain_table(run.model)[1:] @ state).tolist(), strict=True))
        assert dict(answer.pairs()) == pytest.approx(expected, rel=1e-4, abs=1e-4)
        assert all(one >= other for one, other in pairwise(answer.scores))
