"""The attention models and what they may see; the counting models beside their formulas."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnrec.train.data.interactions import Interactions
from attnrec.train.evaluation.torch_recommender import TorchRecommender
from attnrec.train.fitting.config import TrainConfig
from attnrec.train.models import MODELS
from attnrec.train.models.attention_pool import AttentionPool, AttentionPoolConfig
from attnrec.train.models.base import TableModel, catalogue_scores
from attnrec.train.models.configs import Attention, Query
from attnrec.train.models.markov_chain import MarkovChain, MarkovChainConfig
from attnrec.train.models.popularity import (
    PersonalFrequency,
    PersonalFrequencyConfig,
    Popularity,
    PopularityConfig,
)
from attnrec.train.models.sasrec import SASRec
from attnrec.train.models.sasrec_recency import RecencyConfig, RecencySASRec
from attnrec.train.splits.batches import left_pad
from attnrec.train.splits.split import Catalogue, Sequences, Split

N_ITEMS, MAX_LEN = 12, 8

seeds = st.integers(0, 2**32 - 1)
item_count, small = st.just(N_ITEMS), {"max_len": st.just(MAX_LEN), "hidden_dim": st.just(8)}
logits = st.sampled_from(["cosine", "dot"])
heads = st.sampled_from([1, 2, 4])
sasrecs = st.builds(
    RecencyConfig,
    item_count,
    **small,
    n_blocks=st.integers(1, 3),
    n_heads=heads,
    logits=logits,
    decayed_history=st.booleans(),
)
pools = st.builds(
    AttentionPoolConfig,
    item_count,
    **small,
    attention=st.sampled_from(get_args(Attention)),
    query=st.sampled_from(get_args(Query)),
    n_heads=heads,
    logits=logits,
)
configs = sasrecs | pools
Config = RecencyConfig | AttentionPoolConfig
item_logs = st.lists(st.lists(st.integers(1, N_ITEMS), max_size=15), min_size=1, max_size=8)


def small_model(seed: int, config: Config) -> SASRec | AttentionPool:
    """Double precision, so that only a real difference is one; all weights of order one."""
    torch.manual_seed(seed)
    is_pool = isinstance(config, AttentionPoolConfig)
    model = AttentionPool(config) if is_pool else RecencySASRec(config)
    model.double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return model


def small_sasrec(seed: int, **shape: object) -> SASRec:
    return small_model(seed, RecencyConfig(N_ITEMS, max_len=MAX_LEN, hidden_dim=8, **shape))


def random_rows(seed: int, batch: int, length: int) -> Tensor:
    """Rows 0 to N anywhere: more holes than a left-padded history ever has."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, N_ITEMS + 1, (batch, length), generator=generator)
    return rows * (torch.rand(batch, length, generator=generator) < 0.8)


@torch.no_grad()
def states_of(model: TableModel, rows: Tensor) -> Tensor:
    vectors = torch.nn.functional.embedding(rows, model.item_table())
    return model.states(vectors, rows > 0)


def split_of(histories: list[list[int]]) -> Split:
    """Every event is trained on; item r stands in row r."""
    ids = np.arange(1, N_ITEMS + 1)
    titles = np.array([f"title of {item}" for item in ids], dtype=object)
    offsets = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    rows = np.array([r for h in histories for r in h], dtype=np.int32)
    users = np.arange(len(histories))
    log = Interactions(users, ids, offsets, rows - 1, np.arange(len(rows)), None)
    counts = np.bincount(rows, minlength=N_ITEMS + 1)[1:]
    return Split(log, Catalogue(ids, counts, titles), Sequences(offsets, rows), None)


@given(seeds, configs, st.integers(1, 5), st.integers(1, MAX_LEN))
@settings(max_examples=80)
def test_the_last_of_the_states_is_the_state(
    seed: int, config: Config, batch: int, length: int
) -> None:
    model = small_model(seed, config)
    rows = random_rows(seed, batch, length)
    with torch.no_grad():
        vectors = torch.nn.functional.embedding(rows, model.item_table())
        state = model.state_and_attention(vectors, rows > 0)[0]
    torch.testing.assert_close(states_of(model, rows)[:, -1], state, rtol=1e-10, atol=1e-10)


@given(seeds, configs, st.integers(2, MAX_LEN), st.data())
@settings(max_examples=80)
def test_a_later_event_never_changes_an_earlier_state(
    seed: int, config: Config, length: int, data: st.DataObject
) -> None:
    model = small_model(seed, config)
    rows = random_rows(seed, 3, length)
    first_changed = data.draw(st.integers(1, length - 1))
    changed = rows.clone()
    changed[:, first_changed:] = random_rows(seed + 1, 3, length)[:, first_changed:]
    earlier = slice(0, first_changed)
    torch.testing.assert_close(
        states_of(model, rows)[:, earlier], states_of(model, changed)[:, earlier]
    )


@given(seeds, configs, st.integers(1, MAX_LEN), st.integers(1, MAX_LEN))
@settings(max_examples=80)
def test_padding_on_the_left_never_changes_a_state(
    seed: int, config: Config, length: int, padding: int
) -> None:
    model = small_model(seed, config)
    rows = random_rows(seed, 3, length)
    padded = torch.nn.functional.pad(rows, (min(padding, MAX_LEN - length), 0))
    torch.testing.assert_close(
        states_of(model, padded)[:, -length:], states_of(model, rows), rtol=1e-10, atol=1e-10
    )


@given(seeds, configs, st.integers(2, MAX_LEN))
@settings(max_examples=80)
def test_row_0_is_seen_by_no_item(seed: int, config: Config, length: int) -> None:
    model = small_model(seed, config)
    rows = random_rows(seed, 3, length)
    before = states_of(model, rows)
    with torch.no_grad():
        model.item_embedding.weight[0] = torch.linspace(-9, 7, 8)
    after = states_of(model, rows)
    torch.testing.assert_close(after[rows > 0], before[rows > 0])


@given(seeds, configs)
@settings(max_examples=30)
def test_an_empty_history_has_one_state_wherever_it_stands(seed: int, config: Config) -> None:
    model = small_model(seed, config)
    alone = states_of(model, torch.zeros(1, 1, dtype=torch.int64))[0, -1]
    beside = states_of(model, left_pad([np.array([]), np.array([3, 4, 5])], MAX_LEN))[0, -1]
    learned = states_of(model, torch.tensor([[0, 3, 4, 5]]))[0, 0]  # before a first event
    assert alone.isfinite().all()
    torch.testing.assert_close(beside, alone)
    torch.testing.assert_close(learned, alone)


def test_an_empty_history_attends_to_itself() -> None:
    # An empty softmax would be NaN in one runtime and zero in another.
    model, empty = small_sasrec(0), torch.zeros(1, 1, dtype=torch.int64)
    before = states_of(model, empty)
    with torch.no_grad():
        model.blocks[0].key_value.bias[8:] += torch.linspace(-1, 1, 8)  # of the values
    assert (states_of(model, empty) - before).abs().max() > 0.01


def test_the_order_of_events_counts() -> None:
    model = small_sasrec(0)
    one, other = states_of(model, torch.tensor([[1, 2, 3], [2, 1, 3]]))[:, -1]
    assert (one - other).abs().max() > 0.01


def test_cosine_logits_are_cosines_over_the_temperature() -> None:
    model = small_sasrec(0, logits="cosine", temperature=0.5)
    scores = catalogue_scores(model, torch.tensor([[1, 2, 3]])).detach()[0]
    state = states_of(model, torch.tensor([[1, 2, 3]]))[0, -1]
    cosine = torch.cosine_similarity(state, model.item_embedding.weight.detach())
    torch.testing.assert_close(scores, cosine / 0.5)


# --- the counting models, beside slow implementations of their docstrings


@given(item_logs)
def test_popularity_is_the_log_of_the_count(histories: list[list[int]]) -> None:
    model = Popularity(PopularityConfig(N_ITEMS))
    model.fit(split_of(histories))
    scores = model.scores(torch.tensor([[0], [3]]))
    events = [item for history in histories for item in history]
    for item in range(1, N_ITEMS + 1):
        assert scores[:, item].tolist() == pytest.approx([math.log1p(events.count(item))] * 2)


@given(item_logs, st.lists(st.integers(1, N_ITEMS), max_size=30), st.integers(1, 20))
def test_personal_frequency_counts_the_history_and_orders_the_rest_by_popularity(
    histories: list[list[int]], taken: list[int], max_len: int
) -> None:
    model = PersonalFrequency(PersonalFrequencyConfig(N_ITEMS, max_len))
    model.fit(split_of(histories))
    scores = model.scores(left_pad([np.array(taken, dtype=np.int64), np.arange(1, 7)], max_len))[0]
    events = [item for history in histories for item in history]
    most = max((events.count(item) for item in events), default=1)
    for item in range(1, N_ITEMS + 1):
        expected = taken[-max_len:].count(item) + 0.9 * events.count(item) / most
        assert scores[item].item() == pytest.approx(expected)


@given(item_logs, st.lists(st.integers(1, N_ITEMS), max_size=10))
def test_without_repeats_personal_frequency_is_popularity(
    histories: list[list[int]], taken: list[int]
) -> None:
    catalogue = Catalogue(np.arange(N_ITEMS), np.ones(N_ITEMS, dtype=np.int64), None)
    models = (
        PersonalFrequency(PersonalFrequencyConfig(N_ITEMS)),
        Popularity(PopularityConfig(N_ITEMS)),
    )
    answers = []
    for model in models:
        model.fit(split_of(histories))
        raw = np.array(taken, dtype=np.int64) - 1
        answers += TorchRecommender(model, catalogue).recommend_batch(
            [raw], N_ITEMS, exclude_seen=True
        )
    assert answers[0].item_ids == answers[1].item_ids


def transition_weights(
    histories: list[list[int]], config: MarkovChainConfig
) -> dict[tuple[int, int], float]:
    """T[i, j] / ((n_i + 1) (n_j + 1)^0.5)^0.5, pair by pair."""
    events = [item for history in histories for item in history]
    weights: dict[tuple[int, int], float] = {}
    for history in histories:
        for place, item in enumerate(history):
            after = history[place + 1 : place + 1 + config.window]
            for distance, follower in enumerate(after, start=1):
                pair = (item, follower)
                gain = config.distance_decay ** (distance - 1)
                weights[pair] = weights.get(pair, 0.0) + gain
    return {
        (i, j): weight
        * (events.count(i) + 1) ** -0.5
        * (events.count(j) + 1) ** -config.popularity_discount
        for (i, j), weight in weights.items()
    }


@given(item_logs, st.lists(st.integers(1, N_ITEMS), max_size=10))
def test_the_markov_chain_follows_its_formula(
    histories: list[list[int]], taken: list[int]
) -> None:
    config = MarkovChainConfig(N_ITEMS, max_len=6, window=4, history_decay=0.8)
    model = MarkovChain(config)
    model.fit(split_of(histories))
    weights = transition_weights(histories, config)
    events = [item for history in histories for item in history]
    most = max((events.count(item) for item in events), default=1)

    history = left_pad([np.array(taken, dtype=np.int64), np.arange(1, 7)], config.max_len)
    scores = model.scores(history)[0]
    for item in range(1, N_ITEMS + 1):
        expected = 1e-4 * events.count(item) / most
        for age, event in enumerate(reversed(taken[-config.max_len :])):
            expected += config.history_decay**age * weights.get((event, item), 0.0)
        assert scores[item].item() == pytest.approx(expected, rel=1e-5, abs=1e-9)


@given(item_logs, st.integers(1, 4))
def test_the_markov_chain_keeps_the_strongest_neighbours(
    histories: list[list[int]], n_neighbours: int
) -> None:
    config = MarkovChainConfig(N_ITEMS, n_neighbours=n_neighbours)
    model = MarkovChain(config)
    model.fit(split_of(histories))
    weights = transition_weights(histories, config)
    for item in range(1, N_ITEMS + 1):
        leaving = sorted((w for (i, _), w in weights.items() if i == item), reverse=True)
        expected = (leaving + [0.0] * n_neighbours)[:n_neighbours]
        assert model.weight[item].tolist() == pytest.approx(expected, rel=1e-5)


def test_transitions_end_with_the_history_of_a_user() -> None:
    model = MarkovChain(MarkovChainConfig(3))
    model.fit(split_of([[1, 2], [3, 1]]))
    followers = {
        (item, int(follower))
        for item in range(1, 4)
        for follower, weight in zip(model.neighbour[item], model.weight[item], strict=True)
        if weight > 0
    }
    assert followers == {(1, 2), (3, 1)}


def test_equally_strong_followers_are_kept_by_row() -> None:
    model = MarkovChain(MarkovChainConfig(4, n_neighbours=2))
    model.fit(split_of([[1, 4], [1, 3], [1, 2]]))
    assert model.neighbour[1].tolist() == [2, 3]


def test_a_shape_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="`hidden_dim=16` is not divisible by `n_heads=3`"):
        RecencyConfig(n_items=5, hidden_dim=16, n_heads=3)


def test_the_markov_chain_chooses_its_decay_by_validation_unless_it_is_given() -> None:
    quality = {0.4: 0.1, 0.5: 0.3, 0.6: 0.2, 0.7: 0.1, 0.8: 0.1, 0.9: 0.0}
    model = MarkovChain(MarkovChainConfig(N_ITEMS))
    model.tune(lambda: quality[model.config.history_decay or 0])
    assert model.config.history_decay == 0.5
    given = MarkovChain(MarkovChainConfig(N_ITEMS, history_decay=0.8))
    given.tune(lambda: 1.0)
    assert given.config.history_decay == 0.8


@pytest.mark.parametrize("logits", ["cosine", "dot"])
@pytest.mark.parametrize("name", [n for n in MODELS if issubclass(MODELS[n].model, TableModel)])
def test_the_vectors_of_rows_are_those_of_the_table(name: str, logits: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name].model(TrainConfig(name, {"logits": logits}).model_config(30))
    assert isinstance(model, TableModel)
    rows = torch.tensor([4, 0, 30, 4])
    torch.testing.assert_close(model.item_vectors(rows), model.item_table()[rows])
