"""Item-KNN, EASE and content-based beside slow implementations of their docstrings."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from attnrec.runtime import DataError
from attnrec.train import TrainConfig
from attnrec.train.data.interactions import Interactions
from attnrec.train.models.configs import NeighbourConfig
from attnrec.train.models.content_based import (
    ContentBased,
    ContentBasedConfig,
    ContentNeighbours,
    words_of,
)
from attnrec.train.models.ease import Ease, EaseConfig
from attnrec.train.models.item_knn import ItemKNN, ItemKNNConfig
from attnrec.train.models.markov_chain import MarkovChain, MarkovChainConfig
from attnrec.train.models.neighbours import NeighbourModel
from attnrec.train.models.popularity import Popularity, PopularityConfig
from attnrec.train.splits.batches import left_pad
from attnrec.train.splits.split import Catalogue, Sequences, Split

N_ITEMS = 9
Log = list[list[tuple[int, int]]]  # items with weights, by user
Matrix = NDArray[np.float64]

every_item = st.permutations(range(1, N_ITEMS + 1))
few = settings(max_examples=30)


def split_of(
    histories: Log,
    titles: list[str] | None = None,
    attributes: list[tuple[str, ...]] | None = None,
) -> Split:
    """Every event, an item with its weight, is trained on; item r stands in row r."""
    ids = np.arange(1, N_ITEMS + 1)
    offsets = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    events = [event for history in histories for event in history]
    rows = np.array([item for item, _ in events], dtype=np.int32)
    weights = np.array([weight for _, weight in events], dtype=np.float32)
    log = Interactions(
        np.arange(len(histories)), ids, offsets, rows - 1, np.arange(len(rows)), None
    )
    catalogue = Catalogue(
        ids,
        np.bincount(rows, minlength=N_ITEMS + 1)[1:],
        None if titles is None else np.array(titles, dtype=object),
        None if attributes is None else np.fromiter(attributes, object, N_ITEMS),
    )
    return Split(log, catalogue, Sequences(offsets, rows, weights), None)


def users_by_items(histories: Log) -> Matrix:
    """X, with all weights of a user and an item added up."""
    x = np.zeros((len(histories), N_ITEMS))
    for user, history in enumerate(histories):
        for item, weight in history:
            x[user, item - 1] += weight
    return x


def kept(model: NeighbourModel) -> Matrix:
    """W as the model keeps it, (N, N), zero where nothing was kept."""
    w = np.zeros((N_ITEMS + 1, N_ITEMS + 1))
    for item in range(N_ITEMS + 1):
        for neighbour, weight in zip(model.neighbour[item], model.weight[item], strict=True):
            w[item, int(neighbour)] += float(weight)
    return w[1:, 1:]


def without_diagonal(w: Matrix) -> Matrix:
    return w * (1 - np.eye(len(w)))


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Every item has an event, some users took one more than once, with several weights."""
    first = [(item, 1) for item in draw(every_item)]
    cut = draw(st.integers(0, N_ITEMS))
    events = st.tuples(st.integers(1, N_ITEMS), st.sampled_from([1, 2, 4]))
    others = draw(st.lists(st.lists(events, max_size=8), max_size=5))
    return [first[:cut], first[cut:], *others]


@given(logs())
@few
def test_item_knn_by_cosine_compares_the_users_of_items(
    histories: Log,
) -> None:
    model = ItemKNN(ItemKNNConfig(N_ITEMS, similarity="cosine"))
    model.fit(split_of(histories))
    x = users_by_items(histories)
    length = np.linalg.norm(x, axis=0)
    cosine = x.T @ x / np.outer(length, length)
    assert kept(model) == pytest.approx(without_diagonal(cosine), abs=1e-6)


@given(logs(), st.sampled_from([(1.2, 0.75), (100.0, 0.8), (0.0, 0.0), (2.0, 1.0)]))
@few
def test_item_knn_by_bm25_weighs_users_like_words(
    histories: Log, parameters: tuple[float, float]
) -> None:
    k1, b = parameters
    model = ItemKNN(ItemKNNConfig(N_ITEMS, similarity="bm25", k1=k1, b=b))
    model.fit(split_of(histories))
    x = users_by_items(histories)
    a = np.zeros_like(x.T)  # (N, n_users)
    for user, item in np.argwhere(x > 0):
        taken = x[user, item]
        idf = math.log(N_ITEMS) - math.log(1 + (x[user] > 0).sum())
        share = x[:, item].sum() / x.sum() * N_ITEMS
        a[item, user] = idf * taken * (k1 + 1) / (taken + k1 * (1 - b + b * share))
    assert kept(model) == pytest.approx(without_diagonal(a @ a.T), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_transitions_counted_in_blocks_are_those_of_the_whole_log(weighted: bool) -> None:
    # More events than are counted together, of all items and of the most frequent one alone.
    rng, n_events, n_items, window = np.random.default_rng(0), 700_000, 40, 10
    rows = np.where(rng.random(n_events) < 0.5, 1, rng.integers(1, n_items + 1, n_events))
    weights = rng.choice([1, 2, 4], n_events).astype(np.float32) if weighted else None
    offsets = np.array([0, 5, 5, 250_000, 250_001, n_events])
    sequences = Sequences(offsets, rows.astype(np.int32), weights)
    log = Interactions(np.arange(5), np.arange(40), offsets, sequences.rows - 1, rows, None)
    counts = np.bincount(rows, minlength=n_items + 1)
    split = Split(log, Catalogue(np.arange(1, 41), counts[1:], None), sequences, None)
    model = MarkovChain(MarkovChainConfig(n_items, window=window))
    model.fit(split)
    user = np.repeat(np.arange(5), np.diff(offsets))
    expected = np.zeros((n_items + 1, n_items + 1))
    for distance in range(1, window + 1):
        same = user[distance:] == user[:-distance]
        pairs = rows[:-distance][same] * (n_items + 1) + rows[distance:][same]
        counted = None if weights is None else weights[distance:][same]
        found = np.bincount(pairs, counted, expected.size).reshape(expected.shape)
        expected += model.config.distance_decay ** (distance - 1) * found
    expected /= np.sqrt(counts + 1.0)[:, None]
    expected *= (counts + 1.0) ** -model.config.popularity_discount
    w = np.zeros_like(expected)
    np.put_along_axis(w, model.neighbour.numpy().astype(int), model.weight.numpy(), axis=1)
    assert w[1:, 1:] == pytest.approx(expected[1:, 1:], rel=1e-5)


@given(logs(), st.sampled_from([0.5, 10.0, 300.0]))
@few
def test_ease_solves_its_equation(histories: Log, strength: float) -> None:
    model = Ease(EaseConfig(N_ITEMS, regularization=strength))
    model.fit(split_of(histories))
    x = users_by_items(histories)
    p = np.linalg.inv(x.T @ x + strength * np.eye(N_ITEMS))
    expected = np.eye(N_ITEMS) - p / np.diag(p)
    assert kept(model) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_ease_has_negative_weights_and_keeps_the_strongest_of_both_signs() -> None:
    # Everybody takes 3, with either 1 or 2: who took 3 and 1 will not take 2.
    log: Log = [[(1, 1), (3, 1)], [(2, 1), (3, 1)]] * 20 + [[(n, 1) for n in range(4, 10)]]
    whole = Ease(EaseConfig(N_ITEMS, regularization=1.0))
    some = Ease(EaseConfig(N_ITEMS, regularization=1.0, n_neighbours=2))
    whole.fit(split_of(log))
    some.fit(split_of(log))
    for row, weights in zip(kept(whole), some.weight[1:], strict=True):
        assert weights.tolist() == pytest.approx(sorted(row, key=abs, reverse=True)[:2])
    assert kept(some)[0, 1] < -0.5 and kept(some)[0, 2] > 0.5


@given(logs(), st.integers(1, 4))
@few
def test_item_knn_keeps_the_strongest_neighbours(histories: Log, n_neighbours: int) -> None:
    whole = ItemKNN(ItemKNNConfig(N_ITEMS, similarity="cosine"))
    some = ItemKNN(ItemKNNConfig(N_ITEMS, similarity="cosine", n_neighbours=n_neighbours))
    whole.fit(split_of(histories))
    some.fit(split_of(histories))
    for row, weights in zip(kept(whole), some.weight[1:], strict=True):
        assert weights.tolist() == pytest.approx(sorted(row, reverse=True)[:n_neighbours])


@given(logs(), st.lists(st.integers(1, N_ITEMS), max_size=6), st.sampled_from([1.0, 0.8]))
@few
def test_a_score_is_the_decayed_sum_over_the_history(
    histories: Log, events: list[int], decay: float
) -> None:
    model = ItemKNN(ItemKNNConfig(N_ITEMS, max_len=4, history_decay=decay))
    split = split_of(histories)
    model.fit(split)
    w, counts = kept(model), split.catalogue.n_events
    expected = 1e-4 * counts / counts.max()
    for age, item in enumerate(reversed(events[-4:])):
        expected = expected + decay**age * w[item - 1]
    history = left_pad([np.array(events, dtype=np.int64), np.arange(1, 7)], 4)
    assert model.scores(history)[0, 1:].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


TITLES = ["Red Lamp", "lamp, red", "blue lamp", "Green Chair", "chair", "", "red", "42", "x"]
ATTRIBUTES = [("home",), (), ("home", "blue"), ("garden",), (), ("garden",), (), (), ("lamp",)]


def test_content_is_the_cosine_of_tf_idf() -> None:
    model = ContentBased(ContentBasedConfig(N_ITEMS))
    model.fit(split_of([[(item, 1) for item in range(1, N_ITEMS + 1)]], TITLES, ATTRIBUTES))
    documents = [
        [word for word in title.lower().replace(",", "").split() if len(word) > 1]
        + [f"attribute {text}" for text in own]
        for title, own in zip(TITLES, ATTRIBUTES, strict=True)
    ]
    words = sorted({word for document in documents for word in document})
    v = np.array([[document.count(word) for word in words] for document in documents], float)
    v *= np.log((1 + N_ITEMS) / (1 + (v > 0).sum(axis=0))) + 1
    v /= np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12)
    assert kept(model) == pytest.approx(without_diagonal(v @ v.T), abs=1e-6)


def test_content_does_not_look_at_what_was_taken_together() -> None:
    one, other = (ContentBased(ContentBasedConfig(N_ITEMS)) for _ in range(2))
    one.fit(split_of([[(item, 1) for item in range(1, N_ITEMS + 1)]], TITLES))
    other.fit(split_of([[(item, 1)] for item in range(1, N_ITEMS + 1)], TITLES))
    assert np.array_equal(kept(one), kept(other)) and kept(one).any()


@pytest.mark.parametrize("nothing", [None, [""] * N_ITEMS])
def test_content_needs_a_description(nothing: list[str] | None) -> None:
    model = ContentBased(ContentBasedConfig(N_ITEMS))
    with pytest.raises(DataError, match=r"this log has none: .* \(`items`\)"):
        model.fit(split_of([[(1, 1), (2, 1)]], nothing))


def encoded(split: Split, **vectors: np.ndarray) -> Split:
    """The same items, with vectors of encoders."""
    columns = {name: values.astype(np.float32) for name, values in vectors.items()}
    return replace(split, catalogue=replace(split.catalogue, vectors=columns))


def cosines(vectors: np.ndarray) -> np.ndarray:
    known = vectors.any(axis=1)
    centred = (vectors - vectors[known].mean(axis=0)) * known[:, None]
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    return without_diagonal(centred @ centred.T)


def test_vectors_are_compared_from_the_mean_of_the_catalogue_and_beside_words() -> None:
    rng = np.random.default_rng(0)
    image, sound = 100 + rng.normal(size=(N_ITEMS, 5)), rng.normal(size=(N_ITEMS, 3))
    image[3] = 0  # has none
    events = split_of([[(item, 1) for item in range(1, N_ITEMS + 1)]])
    model = ContentBased(ContentBasedConfig(N_ITEMS))
    model.fit(encoded(events, image=image))
    assert kept(model) == pytest.approx(np.maximum(cosines(image), 0), abs=1e-4)
    worded = split_of([[(item, 1) for item in range(1, N_ITEMS + 1)]], TITLES)
    words = ContentBased(ContentBasedConfig(N_ITEMS))
    words.fit(worded)
    model = ContentBased(ContentBasedConfig(N_ITEMS))
    model.fit(encoded(worded, image=image, sound=sound))
    mean = (cosines(image) + cosines(sound) + kept(words)) / 3
    assert kept(model) == pytest.approx(np.maximum(mean, 0), abs=1e-3)


def test_the_share_of_vectors_in_the_likeness_is_that_of_their_cosine() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(N_ITEMS, 5))
    split = encoded(split_of([[(i, 1) for i in range(1, N_ITEMS + 1)]], TITLES), image=image)
    model = ContentNeighbours(NeighbourConfig(N_ITEMS))
    model.fit(split)
    found = {}
    for share in (0.0, 0.3, 1.0):
        model.mix(share)
        found[share] = np.sqrt(kept(model))
    assert found[1.0] == pytest.approx(np.maximum(cosines(image), 0), abs=1e-4)
    words = ContentNeighbours(NeighbourConfig(N_ITEMS))
    words.fit(split_of([[(item, 1) for item in range(1, N_ITEMS + 1)]], TITLES))
    assert found[0.0] == pytest.approx(np.sqrt(kept(words)), abs=1e-4)
    mixed = 0.3 * found[1.0] + 0.7 * found[0.0]
    assert found[0.3] == pytest.approx(mixed, abs=1e-4)


def test_words_of_a_script_without_spaces_are_pairs_of_its_characters() -> None:
    assert words_of("Red LAMP, 2 of 40 Größe") == ["red", "lamp", "of", "40", "größe"]
    assert words_of("無線マウス usb充電 茶") == [
        "無線",
        "線マ",
        "マウ",
        "ウス",
        "usb",
        "充電",
        "茶",
    ]
    assert words_of("हिन्दी की") == ["हिन्दी", "की"]
    assert words_of("เสื้อ") == ["เส", "สื", "ื้", "้อ"]


FITTED = [
    ItemKNN(ItemKNNConfig(N_ITEMS)),
    Ease(EaseConfig(N_ITEMS)),
    ContentBased(ContentBasedConfig(N_ITEMS)),
    MarkovChain(MarkovChainConfig(N_ITEMS)),
]


@pytest.mark.parametrize("model", FITTED, ids=lambda model: type(model).__name__)
@given(histories=logs())
@settings(max_examples=10)
def test_an_empty_history_gets_what_is_popular(model: NeighbourModel, histories: Log) -> None:
    split = split_of(histories, TITLES, ATTRIBUTES)
    model.fit(split)
    scores = model.scores(torch.zeros(1, 1, dtype=torch.int64))[0, 1:].numpy()
    counts = split.catalogue.n_events
    assert np.array_equal(np.argsort(-scores, kind="stable"), np.argsort(-counts, kind="stable"))


def test_ease_refuses_a_matrix_that_would_not_fit() -> None:
    model = Ease(EaseConfig(30_000, n_neighbours=1))
    with pytest.raises(DataError, match=r"30,000 x 30,000, 10\.8 GB, above the limit of 8 GB"):
        model.fit(split_of([[(1, 1), (2, 1)]]))
    small = Ease(EaseConfig(N_ITEMS, most_gb=1e-9))
    with pytest.raises(DataError, match=r"`min_item_events`.*`most_gb=1`"):
        small.fit(split_of([[(1, 1), (2, 1)]]))


def test_a_lambda_lost_in_rounding_is_refused() -> None:
    model = Ease(EaseConfig(N_ITEMS, regularization=1e-9))
    with pytest.raises(ValueError, match="regularization 1e-09 is too small for this log"):
        model.fit(split_of([[(item, 1) for item in range(1, N_ITEMS + 1)]]))


def test_ease_chooses_lambda_by_validation_unless_it_is_given() -> None:
    histories = [[(item, 1) for item in range(1, N_ITEMS + 1)], [(1, 1), (2, 1)]]
    model, given_one = Ease(EaseConfig(N_ITEMS)), Ease(EaseConfig(N_ITEMS, regularization=300.0))
    for one in (model, given_one):
        one.fit(split_of(histories))
    expected = given_one.weight.clone()
    weights_by_quality: list[torch.Tensor] = []

    def validate() -> float:
        weights_by_quality.append(model.weight.clone())
        return float(torch.equal(model.weight, expected))

    model.tune(validate)
    assert len(weights_by_quality) > 2
    assert model.config.regularization == 300.0
    assert torch.equal(model.weight, expected)
    given_one.tune(lambda: pytest.fail("nothing was left to choose"))


def test_weights_of_events_count_for_what_came_and_for_popularity() -> None:
    log = [[(1, 1), (2, 4)], [(1, 1), (3, 1)], [(3, 1)]]
    chain, popularity = (
        MarkovChain(MarkovChainConfig(N_ITEMS)),
        Popularity(PopularityConfig(N_ITEMS)),
    )
    split = split_of(log)
    chain.fit(split)
    popularity.fit(split)
    w = kept(chain)
    discount = (3 / 2) ** 0.25  # item 3 has two events, item 2 one
    assert w[0, 1] == pytest.approx(4 * discount * w[0, 2])
    assert popularity.log_count[1:4].tolist() == pytest.approx(np.log1p([2, 4, 2]).tolist())


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("item-knn", {"similarity": "dot"}, "`similarity` must be one of cosine, bm25, not 'dot'"),
        ("item-knn", {"b": 1.5}, "`b` must be a number"),
        ("ease", {"regularization": 0}, "`regularization` must be a number above 0"),
        ("content-based", {"n_neighbours": 0}, "`n_neighbours` must be a whole number"),
    ],
)
def test_wrong_settings_are_refused(model: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(model, settings)
