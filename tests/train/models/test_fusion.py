"""Fusion: the scores of attention plus those of counts, weighed by validation."""

import copy
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from attnrec.train import DataRecipe, TrainConfig, train
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import load_interactions
from attnrec.train.evaluation.torch_recommender import TorchRecommender
from attnrec.train.models.base import catalogue_scores
from attnrec.train.models.configs import NeighbourConfig
from attnrec.train.models.content_based import ContentNeighbours
from attnrec.train.models.counted_experts import CountedExperts
from attnrec.train.models.ease import Ease
from attnrec.train.models.fusion import Fusion
from attnrec.train.models.fusion_config import MOST_EASE_ITEMS, FusionConfig, fusion_recipe
from attnrec.train.models.markov_chain import MarkovChain
from attnrec.train.splits.split import all_events, divide

SMALL = {"hidden_dim": 8, "max_len": 10}


def counted_fusion(shop_events, **settings) -> Fusion:
    split = divide(shop_events, "leave-one-out")
    torch.manual_seed(0)
    model = Fusion(FusionConfig(split.catalogue.n_items, **{**SMALL, **settings})).eval()
    model.prepare(split)
    return model


def dense(model: Fusion, history: torch.Tensor) -> torch.Tensor:
    """What the counts add to every score, (B, N + 1)."""
    return model.counts.scores(history)


def test_its_score_is_that_of_attention_and_the_logarithm_of_the_share_of_the_counts(
    shop_events,
) -> None:
    settings = {"count_weight": 0.4, "history_decay": 0.6, "count_floor": 0.01}
    model = counted_fusion(shop_events, **settings, n_neighbours=1000)
    history = torch.tensor([[0, 3, 7], [1, 2, 3]])
    with torch.no_grad():
        together = catalogue_scores(model, history)
        states = model.states(model.item_table()[history], history > 0)[:, -1]
        attended = states @ model.item_table().T
    chain = MarkovChain(model.config.chain())
    chain.fit(divide(shop_events, "leave-one-out"))
    chain.prior.zero_()
    counts = chain.scores(history)
    for row in range(2):
        total = float(counts[row].sum())
        for item in range(1, counts.shape[1]):
            expected = float(attended[row, item])
            expected += 0.4 * math.log(1 + float(counts[row, item]) / total / 0.01)
            assert float(together[row, item]) == pytest.approx(expected, abs=1e-4)


def test_ease_adds_the_logarithm_of_the_share_of_its_positive_scores(shop_events) -> None:
    settings = {"count_weight": 0.4, "history_decay": 0.6, "count_floor": 0.01}
    settings |= {"ease_regularization": 3.0, "n_neighbours": 1000}
    alone = counted_fusion(shop_events, **settings)
    both = counted_fusion(shop_events, **settings, ease=True, ease_weight=0.7)
    history = torch.tensor([[0, 3, 7], [1, 2, 3]])
    ease = Ease(both.config.solved())
    ease.fit(divide(shop_events, "leave-one-out"))
    ease.prior.zero_()
    positive = ease.scores(history).clamp(min=0)
    assert (ease.scores(history) < 0).any()  # which do not count
    share = positive / positive.sum(1, keepdim=True)
    expected = dense(alone, history) + 0.7 * (1 + share / 0.01).log()
    torch.testing.assert_close(dense(both, history)[:, 1:], expected[:, 1:])


def described(log: Interactions) -> Interactions:
    """Items 10 to 19 are red lamps, as all that follow; every other one is of the garden."""
    names = [str(item) for item in log.item_ids]
    titles = np.array([f"Red Lamp shade {n[-1]}" if n[-2] == "1" else "" for n in names], object)
    own = [("garden",) if int(n[-1]) % 2 else () for n in names]
    attributes = np.empty(len(own), dtype=object)
    attributes[:] = own
    return replace(log.with_titles(titles), item_attributes=attributes)


def test_content_adds_the_logarithm_of_the_share_of_its_squared_cosines(shop_events) -> None:
    shop = described(shop_events)
    settings = {"count_weight": 0.4, "history_decay": 0.6, "count_floor": 0.01, "ease": True}
    settings |= {"max_len": 30}
    alone = counted_fusion(shop, **settings)
    both = counted_fusion(shop, **settings, content=True, content_weight=0.7, content_decay=0.8)
    neighbours = ContentNeighbours(replace(both.config.described(), max_len=20, history_decay=0.8))
    neighbours.fit(divide(shop, "leave-one-out"))
    neighbours.prior.zero_()
    history = torch.tensor([[0, 0, *range(1, 29)], list(range(30, 0, -1))])
    alike = neighbours.scores(history[:, -20:])
    assert (alike > 0).any() and (alike[:, 1:] == 0).any()
    share = alike / alike.sum(1, keepdim=True)
    expected = dense(alone, history) + 0.7 * (1 + share / 0.01).log()
    torch.testing.assert_close(dense(both, history)[:, 1:], expected[:, 1:])
    # Rows that are listed by counts and by content have one number.
    rows, values = both.added_scores(history)
    for own, added in zip(rows.tolist(), values.tolist(), strict=True):
        assert len(set(own)) == len(set(zip(own, added, strict=True)))


def test_validation_chooses_the_weight_of_content_or_leaves_it_and_its_table_out(
    shop_events,
) -> None:
    shop = described(shop_events)
    given = {"content": True, "history_decay": 0.6, "count_weight": 1.0, "content_vectors": 0.0}
    model = counted_fusion(shop, **given, content_weight=1.0)
    model.tune(Quality(model, content_decay=0.6))
    assert model.config.content_decay == model.counts.config.content_decay == 0.6
    model = counted_fusion(shop, **given, content_decay=0.8)
    model.tune(Quality(model, content_weight=1.4))
    assert (model.config.content_weight, model.config.content_decay) == (1.4, 0.8)
    assert model.n_choices == 0
    model = counted_fusion(shop, **given)
    assert model.n_choices == 17
    model.tune(Quality(model, count_weight=1.0))  # all weights of content are as good
    assert not model.config.content
    without = counted_fusion(shop_events, history_decay=0.6, count_weight=1.0)
    assert model.state_dict().keys() == without.state_dict().keys()
    history = torch.tensor([[1, 2, 3]])
    assert torch.equal(dense(model, history), dense(without, history))


def test_the_weights_of_the_counts_are_chosen_again_beside_content(shop_events) -> None:
    given = {"content": True, "content_vectors": 0.0, "content_decay": 0.8, "history_decay": 0.6}
    model = counted_fusion(described(shop_events), **given)

    def validate() -> float:
        content, wanted = model.config.content_weight or 0.0, 1.4
        if content > 0:
            wanted = 0.3
        return content - abs(model.config.count_weight - wanted)

    model.tune(validate)
    assert (model.config.count_weight, model.config.content_weight) == (0.3, 2.0)


def test_validation_chooses_how_much_vectors_count_beside_words(shop_events) -> None:
    shop = described(shop_events)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(shop.item_ids), 4)).astype(np.float32)
    shop = replace(shop, item_vectors={"image": vectors})
    given = {"content": True, "content_weight": 1.0, "content_decay": 0.8, "ease": False}
    model = counted_fusion(shop, **given, count_weight=1.0, history_decay=0.6)
    assert model.n_choices == 5
    tables = {}
    for share in (0.0, 1.0):
        model.tune(Quality(model, content_vectors=share))
        assert model.config.content_vectors == model.counts.config.content_vectors == share
        tables[share] = model.counts.alike.clone()
        fixed = counted_fusion(
            shop, **given, count_weight=1.0, history_decay=0.6, content_vectors=share
        )
        assert torch.equal(fixed.counts.alike, tables[share]) and fixed.n_choices == 0
        model = counted_fusion(shop, **given, count_weight=1.0, history_decay=0.6)
    assert not torch.equal(tables[0.0], tables[1.0])


def test_of_many_that_are_alike_those_are_kept_that_people_take() -> None:
    # Four kinds of lamps; those of the end are taken more often.
    n_items = 40
    rows = [(f"{u}", f"{i:02}", u) for u in range(n_items) for i in range(n_items - u, n_items)]
    log, _ = load_interactions(pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]))
    titles = np.array([f"lamp colour{i % 4}" for i in range(n_items - 1)], object)
    split = divide(log.with_titles(titles), "leave-one-out")
    neighbours = ContentNeighbours(NeighbourConfig(split.catalogue.n_items, n_neighbours=4))
    neighbours.fit(split)
    rows = neighbours.neighbour[1:]
    colour = split.catalogue.titles
    for row, own in enumerate(rows.tolist(), start=1):
        same = [r for r in range(1, n_items) if r != row and colour[r - 1] == colour[row - 1]]
        assert sorted(own) == same[:4]  # rows are sorted by events


def test_of_all_neighbours_those_are_kept_that_move_the_most_people(shop_events) -> None:
    split = divide(shop_events, "leave-one-out")
    few, all_of_them = (
        counted_fusion(shop_events, n_neighbours=n, ease=True).counts for n in (3, 1000)
    )
    n_kept = int((few.neighbour > 0).sum())
    assert 0.5 * 3 * split.catalogue.n_items < n_kept <= 3 * split.catalogue.n_items
    events = torch.from_numpy(np.bincount(split.sequences.rows, minlength=len(few.chunks)))

    def sizes(counts: CountedExperts) -> tuple[set[float], ...]:
        """|W| sqrt(events) of every pair, for each expert."""
        own = torch.zeros(len(counts.neighbour))
        own[counts.chunks.flatten().long()] = (
            events.float().sqrt().repeat_interleave(counts.chunks.shape[1])
        )
        size = counts.weight.abs() * own[:, None]
        return tuple({round(x, 5) for x in one[one > 0].tolist()} for one in size)

    assert all(kept <= every for kept, every in zip(sizes(few), sizes(all_of_them), strict=True))
    assert max(sizes(few)[1]) == max(sizes(all_of_them)[1])
    assert min(sizes(few)[1]) > min(sizes(all_of_them)[1])


def test_an_item_without_neighbours_and_an_empty_history_leave_attention_alone(
    shop_events,
) -> None:
    model = counted_fusion(shop_events, ease=True, ease_weight=0.5, count_weight=1.0)
    assert not dense(model, torch.tensor([[0, 0]])).any()
    assert dense(model, torch.tensor([[0, 5]])).any()
    model.counts.chunks[5] = 0
    rows, values = model.added_scores(torch.tensor([[0, 5]]))
    assert not rows.any() and not values.any()
    torch.testing.assert_close(
        dense(model, torch.tensor([[5, 7]]))[:, 1:],
        dense(model, torch.tensor([[0, 7]]))[:, 1:],
    )


def test_ease_looks_at_the_newest_max_len_events_and_the_transitions_at_20_of_them(
    shop_events,
) -> None:
    catalogue = divide(shop_events, "leave-one-out").catalogue
    ids = catalogue.item_ids.tolist()
    newest, extra = ids[:30], ids[30:35]
    counted = {"max_len": 30, "history_decay": 1.0, "count_weight": 1.0}
    by_transitions = counted_fusion(shop_events, **counted)
    by_both = counted_fusion(shop_events, ease=True, ease_weight=0.5, **counted)

    def added(model: Fusion, history: list[str]) -> list[float]:
        """Counted scores, of raw ids cut at `max_len`, as validation and the gate compute them."""
        reference = TorchRecommender(model, catalogue)
        alone = copy.deepcopy(model)
        alone.config = alone.counts.config = replace(
            model.config, count_weight=0.0, ease_weight=0.0
        )
        together, attention = reference.scores([history]), TorchRecommender(alone, catalogue)
        return (together - attention.scores([history]))[0].tolist()

    for model in (by_transitions, by_both):
        assert any(added(model, newest))
        assert added(model, [*extra, *newest]) == added(model, newest)
    other = [extra[0], *newest[1:]]  # the 30th newest, which the transitions do not see
    assert added(by_transitions, other) == pytest.approx(added(by_transitions, newest), abs=1e-4)
    assert added(by_both, other) != pytest.approx(added(by_both, newest), abs=1e-4)


def test_without_weight_the_counts_add_nothing(shop_events) -> None:
    model = counted_fusion(shop_events, count_weight=0.0)
    assert not dense(model, torch.tensor([[1, 2], [0, 0]])).any()


def test_counts_look_at_the_newest_events_alone(shop_events) -> None:
    model = counted_fusion(shop_events, max_len=22, count_weight=1.0)
    n_looked_at = model.config.chain().max_len
    newest = torch.arange(1, n_looked_at + 1).unsqueeze(0)
    older = torch.cat([torch.tensor([[30, 31]]), newest], dim=1)
    torch.testing.assert_close(dense(model, older), dense(model, newest))
    assert dense(model, newest).any()


class Quality:
    """Validation that likes one setting best."""

    def __init__(self, model: Fusion, **best: float) -> None:
        self.model, self.best = model, best
        self.n_calls = 0

    def __call__(self) -> float:
        self.n_calls += 1
        return -sum(abs(vars(self.model.config)[n] - v) for n, v in self.best.items())


def test_validation_chooses_the_decay_and_the_weight(shop_events) -> None:
    model = counted_fusion(shop_events)
    model.tune(Quality(model, history_decay=0.8))
    assert model.config.history_decay == model.counts.config.history_decay == 0.8
    model = counted_fusion(shop_events, history_decay=0.6)
    model.tune(Quality(model, count_weight=0.3))
    assert (model.config.count_weight, model.config.history_decay) == (0.3, 0.6)


def test_what_a_run_before_has_chosen_is_chosen_near_it(shop_events) -> None:
    tried: list[float] = []

    def validate() -> float:
        tried.append(model.config.count_weight)
        return model.config.count_weight

    model = counted_fusion(shop_events, history_decay=0.6)
    model.chosen_before = {"count_weight": 0.3, "history_decay": 0.6}
    model.tune(validate)
    assert tried == [0.1, 0.3, 0.5]
    assert model.config.count_weight == 0.5
    every = [0.0, 0.1, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0]
    for before, values in ((0.0, every[:2]), (2.0, every[-2:]), (0.33, every)):
        tried.clear()
        model = counted_fusion(shop_events, history_decay=0.6)
        model.chosen_before = {"count_weight": before}
        model.tune(validate)
        assert tried == values


def test_counts_are_left_out_of_epochs_and_where_validation_gives_them_no_weight(
    shop_events,
) -> None:
    model = counted_fusion(shop_events, ease=True)
    history = torch.tensor([[1, 2, 3]])
    assert not dense(model, history).any()  # nothing is chosen yet
    n_kept = len(model.counts.neighbour)
    model.tune(Quality(model, count_weight=0.0))  # all weights of EASE are as good
    assert (model.config.count_weight, model.config.ease) == (0.0, False)
    assert not dense(model, history).any()
    assert n_kept > len(model.counts.neighbour) == 1
    final = counted_fusion(shop_events, count_weight=0.0, history_decay=0.6)
    assert len(final.counts.neighbour) == 1


def test_validation_chooses_the_weight_of_ease_or_leaves_it_out(shop_events) -> None:
    model = counted_fusion(shop_events, ease=True, history_decay=0.6, count_weight=1.0)
    model.tune(Quality(model, ease_weight=0.3))
    assert (model.config.ease_weight, model.config.count_weight) == (0.3, 1.0)
    history = torch.tensor([[1, 2, 3]])
    model = counted_fusion(shop_events, ease=True, history_decay=0.6, count_weight=1.0)
    model.tune(Quality(model, ease_weight=0.0))
    assert not model.config.ease
    without = counted_fusion(shop_events, history_decay=0.6, count_weight=1.0)
    assert torch.equal(dense(model, history), dense(without, history))


def test_while_it_is_tuned_attention_is_computed_once_for_each_batch_and_alike(
    shop_events,
) -> None:
    model, untuned = (counted_fusion(shop_events, ease=True) for _ in range(2))
    batches = [torch.tensor([[1, 2, 3]]), torch.tensor([[0, 4]]), torch.tensor([[0], [4]])]
    computed, differ = [], []
    model.blocks[-1].register_forward_hook(lambda *of: computed.append(of))

    def validate() -> float:
        with torch.inference_mode():
            table = model.item_table()
            untuned.load_state_dict(model.state_dict(), strict=False)
            for history in batches:
                expected = untuned.states(table[history], history > 0)[:, -1] @ table.T
                expected += dense(model, history)
                differ.append((catalogue_scores(model, history) - expected).abs().max())
        return float(len(differ))

    model.tune(validate)
    assert len(differ) > 20 * len(batches)
    assert max(differ) < 1e-4
    assert len(computed) == len(batches)
    with torch.no_grad():
        model.item_embedding.weight += 0.1
        validate()  # afterwards changed weights count
    assert max(differ[-len(batches) :]) < 1e-4


def test_a_catalogue_that_is_too_large_for_ease_is_refused() -> None:
    FusionConfig(MOST_EASE_ITEMS, ease=True).solved()
    with pytest.raises(ValueError, match=r"20,000 items at most, and here are 20,001.*ease=false"):
        FusionConfig(MOST_EASE_ITEMS + 1, ease=True).solved()


def test_what_was_given_is_not_tuned(shop_events) -> None:
    model = counted_fusion(shop_events, count_weight=0.35, history_decay=0.55)
    quality = Quality(model, count_weight=1.0)
    model.tune(quality)
    assert quality.n_calls == 0
    assert (model.config.count_weight, model.config.history_decay) == (0.35, 0.55)


def test_a_run_keeps_what_was_chosen_and_its_validation_figures(shop_log, tmp_path) -> None:
    config = TrainConfig("fusion", settings=SMALL, epochs=2, batch_events=100)
    run = train(shop_log, config, recipe=DataRecipe(), out=tmp_path / "run")
    chosen = run.model.config
    assert chosen.count_weight is not None
    assert chosen.history_decay is not None
    # Epochs are validated before anything is chosen; the choice is at least as good.
    best = max(epoch["valid"]["ndcg@10"] for epoch in run.metrics["epochs"])
    assert run.metrics["valid"]["ndcg@10"] >= best - 0.02


def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(shop_log, tmp_path) -> None:
    class Stop:
        def on_start(self, n_epochs) -> None: ...

        def on_step(self, epoch, step, n_steps, loss) -> None:
            if (epoch, step) == (2, 3):
                raise KeyboardInterrupt

        def on_epoch(self, record) -> None: ...

    config = TrainConfig("fusion", settings=SMALL, epochs=3, batch_events=100, threads=1)
    whole = train(shop_log, config, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(shop_log, config, out=tmp_path / "run", progress=Stop())
    resumed = train(shop_log, config, out=tmp_path / "run", resume=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert resumed.model.config == whole.model.config
    assert resumed.metrics["valid"] == whole.metrics["valid"]


def test_settings_not_given_follow_from_the_log_with_their_reasons(shop_log, tmp_path) -> None:
    given = TrainConfig("fusion", settings={"dropout": 0.1, "hidden_dim": 8}, epochs=1)
    run = train(shop_log, given, out=tmp_path / "run")
    assert run.config.settings["dropout"] == 0.1
    assert run.config.epochs == 1
    assert run.model.config.max_len == 20  # the longest history has 25 events
    assert set(run.metrics["recipe"]) == {
        "max_len", "n_blocks", "time_gaps", "timed_blocks", "ease", "n_neighbours", "loss",
        "n_negatives", "batch_events", "patience", "temperature", "content", "count_weight",
        "ease_weight", "history_decay", "trend",
    }  # fmt: skip
    reason = run.metrics["recipe"]["count_weight"]
    assert reason.startswith("the highest validation NDCG@10 (0: ") and "1.4: " in reason
    assert run.config.schedule.batch_events == run.config.batch_events == 50
    sasrec = train(shop_log, TrainConfig("sasrec", epochs=1), out=tmp_path / "other")
    assert not sasrec.metrics.recipe


@pytest.mark.parametrize(
    ("n_items", "per_item", "hidden_dim", "n_blocks"),
    [(2000, 30, 128, 2), (1000, 60, 64, 1), (100, 30, 64, 1), (5001, 5, 128, 2)],
)
def test_a_model_is_wider_where_there_are_many_events_and_few_of_each_item(
    n_items: int, per_item: int, hidden_dim: int, n_blocks: int
) -> None:
    n_users = n_items * per_item // 10
    item = np.arange(10 * n_users, dtype=np.int32) % n_items
    times = np.zeros(len(item), np.int64)
    ids = np.arange(n_items), np.arange(0, len(item) + 1, 10)
    log = Interactions(np.arange(n_users), *ids, item, times, None)
    recipe = fusion_recipe(all_events(log))
    assert (recipe["hidden_dim"][0], recipe["n_blocks"][0]) == (hidden_dim, n_blocks)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"count_weight": -0.1}, "count_weight"),
        ({"ease": 1}, "ease"),
        ({"ease_weight": -0.1}, "ease_weight"),
        ({"ease_regularization": 0.0}, "ease_regularization"),
        ({"content": "yes"}, "content"),
        ({"content_weight": -0.1}, "content_weight"),
        ({"content_decay": -0.1}, "content_decay"),
        ({"content_vectors": 1.1}, "content_vectors"),
        ({"count_floor": 0.0}, "count_floor"),
        ({"history_decay": -1.0}, "history_decay"),
        ({"n_neighbours": 0}, "n_neighbours"),
    ],
)
def test_a_wrong_setting_is_named(settings, what) -> None:
    with pytest.raises(ValueError, match=what):
        FusionConfig(10, **settings)
