"""Models of users: pairs, negatives, cold users, and both models by their formulas."""

import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attnrec.runtime.side_inputs import SideInputs
from attnrec.train import DataRecipe, Run, TrainConfig, train, train_final, tune
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.load import load_interactions
from attnrec.train.evaluation.torch_recommender import TorchRecommender
from attnrec.train.fitting.state import EpochRecord
from attnrec.train.layers.losses import pair_cross_entropy
from attnrec.train.models.neumf import NeuMF, NeuMFConfig
from attnrec.train.models.pair_model import PairConfig, PairModel
from attnrec.train.models.user_item_attention import UserItemAttention
from attnrec.train.runs.train import train_log
from attnrec.train.splits.batches import Batch, PairBatches
from attnrec.train.splits.split import Split, divide

NAMES = ("user-item-attention", "neumf")
TAGS = [(), ("gold",), ("chess", "gold"), ("opera",)]


@pytest.fixture(scope="module")
def split(shop_events: Interactions) -> Split:
    """With tags, and a weight for every event."""
    tags = np.empty(shop_events.n_users, object)
    tags[:] = [TAGS[user % 4] for user in range(shop_events.n_users)]
    found = divide(replace(shop_events, user_tags=tags), "leave-one-out")
    weights = np.arange(1, len(found.sequences.rows) + 1, dtype=np.float32)
    return replace(found, sequences=replace(found.sequences, weights=weights))


def epoch_of(split: Split, seed: int = 0, n_negatives: int = 3, dropout: float = 0) -> list[Batch]:
    return list(PairBatches(split, 50, n_negatives, dropout).epoch(np.random.default_rng(seed)))


def taken_by_user(split: Split) -> dict[int, list[int]]:
    offsets, rows = split.sequences.offsets.tolist(), split.sequences.rows.tolist()
    return {user: rows[a:b] for user, (a, b) in enumerate(itertools.pairwise(offsets), start=1)}


# --- pairs


def test_every_event_is_learned_once_an_epoch_by_its_user_with_its_weight(split: Split) -> None:
    found = sorted(
        (weight, user, item)
        for batch in epoch_of(split)
        for weight, user, item in zip(
            batch.weights[:, 0].tolist(),
            batch.user.tolist(),
            batch.targets[:, 0].tolist(),
            strict=True,
        )
    )
    events = [(user, item) for user, items in taken_by_user(split).items() for item in items]
    assert found == [(place, *event) for place, event in enumerate(events, start=1)]


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=20)
def test_a_negative_is_an_item_that_the_user_has_not_taken(
    split: Split, seed: int, n_negatives: int
) -> None:
    taken = taken_by_user(split)
    for batch in epoch_of(split, seed, n_negatives):
        assert batch.negatives.shape == (len(batch.user), n_negatives)
        assert batch.negatives.min() >= 1 and batch.negatives.max() <= split.catalogue.n_items
        for user, items in zip(batch.user.tolist(), batch.negatives.tolist(), strict=True):
            assert not set(items) & set(taken[user])


def test_negatives_are_uniform_over_what_is_left(split: Split) -> None:
    user, items = max(taken_by_user(split).items(), key=lambda pair: len(pair[1]))
    drawn = [
        item
        for seed in range(10)
        for batch in epoch_of(split, seed, 20)
        for item in batch.negatives[batch.user == user].flatten().tolist()
    ]
    counts = np.bincount(drawn, minlength=split.catalogue.n_items + 1)[1:]
    left = counts[counts > 0]
    assert len(left) == split.catalogue.n_items - len(set(items))
    expected = len(drawn) / len(left)
    assert np.abs(left - expected).max() < 5 * expected**0.5


def test_a_user_who_has_taken_everything_is_trained_on() -> None:
    rows = [("all", f"i{n}", n) for n in range(6)] + [("some", "i1", 0), ("some", "i2", 1)]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    run_all = PairBatches(divide(load_interactions(log)[0], "leave-one-out"), 10, 2, 0)
    assert sum(len(b.user) for b in run_all.epoch(np.random.default_rng(0))) == 6


def test_the_generator_alone_decides_an_epoch(split: Split) -> None:
    one, again, other = (epoch_of(split, seed, dropout=0.3) for seed in (5, 5, 6))
    for a, b in zip(one, again, strict=True):
        given = [name for name, value in vars(a).items() if value is not None]
        assert "negatives" in given
        assert all(torch.equal(getattr(a, n), getattr(b, n)) for n in given)
    assert not torch.equal(one[0].targets, other[0].targets)
    assert not torch.equal(one[0].negatives, other[0].negatives)


def test_some_events_are_learned_as_of_cold_users_with_and_without_tags(
    split: Split,
) -> None:
    batches = [b for seed in range(5) for b in epoch_of(split, seed, dropout=0.4)]
    user = torch.cat([b.user for b in batches])
    tags = torch.cat([b.user_tags for b in batches]).sum(dim=1)
    assert (user == 0).float().mean() == pytest.approx(0.4, abs=0.05)
    assert (tags[user == 0] > 0).any() and (tags[user == 0] == 0).any()
    own = torch.from_numpy(split.users.tag_rows).sum(dim=1)
    assert torch.equal(tags[user > 0], own[user[user > 0]]), "a known user keeps the tags"


# --- the loss


def test_the_loss_is_the_mean_binary_cross_entropy_of_happened_and_not() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    p = torch.sigmoid(logits)
    rows = -torch.stack([p[:, 0], 1 - p[:, 1], 1 - p[:, 2]]).log().mean(dim=0)
    torch.testing.assert_close(pair_cross_entropy(logits), rows.mean())
    weighted = pair_cross_entropy(logits, torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(weighted, (rows[0] + 3 * rows[1]) / 4)


# --- the models


def small(name: str, seed: int = 0, **sizes: Any) -> PairModel:
    """Double precision, so that only a real difference is one; all weights of order one."""
    torch.manual_seed(seed)
    sizes = {"n_items": 12, "n_users": 5, "n_tags": 3, "hidden_dim": 4} | sizes
    made = (
        UserItemAttention(PairConfig(**sizes)) if name == NAMES[0] else NeuMF(NeuMFConfig(**sizes))
    )
    model = made.double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight))
        if sizes["n_tags"]:
            model.user_vectors.tag_embedding.weight[0] = 0  # no tag, as in training
    return model


def scores_of(model: PairModel, user: list[int], tags: list[list[int]]) -> Tensor:
    history = torch.zeros(len(user), 1, dtype=torch.int64)
    with torch.no_grad():
        return model.scores(history, user=torch.tensor(user), user_tags=torch.tensor(tags))


def vector(model: PairModel, user: int, tags: list[int]) -> Tensor:
    """E_user[user] + mean of E_tag[tags]."""
    table, of_tags = model.user_vectors.user_embedding, model.user_vectors.tag_embedding
    mean = of_tags.weight[tags].mean(dim=0) if tags else 0
    return (table.weight[user] + mean).detach()


@pytest.mark.parametrize("user", [0, 3])
@pytest.mark.parametrize("tags", [[], [2], [1, 3]])
def test_user_item_attention_follows_its_formula(user: int, tags: list[int]) -> None:
    model = small("user-item-attention")
    u, items = 2 * vector(model, user, tags), 2 * model.item_embedding.weight.detach()[1:]  # √D
    a, bias = model.of_user.weight.detach()[0], model.of_user.bias.item()
    b, c = model.of_item.weight.detach()
    w = 12 * torch.softmax(torch.stack([u @ e / 4**0.5 for e in items]), dim=0)
    assert w.mean().item() == pytest.approx(1)
    expected = [a @ u + b @ e + w[j] * (c @ e) + bias for j, e in enumerate(items)]
    scores = scores_of(model, [user], [[*tags, 0, 0]])
    torch.testing.assert_close(scores[0, 1:], torch.stack(expected))


@pytest.mark.parametrize("user", [0, 3])
@pytest.mark.parametrize("tags", [[], [2], [1, 3]])
def test_neumf_follows_equations_8_to_12(user: int, tags: list[int]) -> None:
    model = small("neumf")
    u = vector(model, user, tags)
    p, p_mlp = u[:4], u[4:]
    w_1 = torch.cat([model.first_of_user.weight, model.first_of_item.weight], dim=1).detach()
    h = torch.cat([model.of_product.weight, model.of_network.weight], dim=1).detach()[0]
    expected = []
    for item in model.item_embedding.weight.detach():
        q, q_mlp = item[:4], item[4:]
        z = torch.relu(w_1 @ torch.cat([p_mlp, q_mlp]) + model.first_of_user.bias)
        z = torch.relu(model.second(z))
        expected.append(h @ torch.cat([p * q, z]) + model.of_network.bias[0])
    torch.testing.assert_close(scores_of(model, [user], [[*tags, 0]])[0], torch.stack(expected))


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_has_the_logit_that_its_item_has_in_the_catalogue(name: str) -> None:
    model, items = small(name), torch.tensor([[1, 12, 5], [7, 7, 3]])
    tags = [[0, 2], [1, 3]]
    context = {"user": torch.tensor([2, 0]), "user_tags": torch.tensor(tags)}
    found = model.pair_logits(items, **context)
    torch.testing.assert_close(found, scores_of(model, [2, 0], tags).gather(1, items))


def test_with_the_weight_1_all_users_get_the_same_ranking_and_with_attention_not() -> None:
    class Constant(UserItemAttention):
        def weights(self, users: Tensor) -> Tensor:
            return torch.ones(len(users), self.config.n_items, dtype=users.dtype)

    model = small("user-item-attention")
    constant = Constant(model.config).double()
    constant.load_state_dict(model.state_dict())
    users = [1, 2, 3, 4], [[0], [1], [2], [3]]
    same = scores_of(constant, *users)[:, 1:].argsort(dim=1)
    assert (same == same[0]).all()
    own = scores_of(model, *users)[:, 1:].argsort(dim=1)
    assert not (own == own[0]).all()


@pytest.mark.parametrize("name", NAMES)
def test_without_tags_in_the_log_they_are_no_input(name: str) -> None:
    assert small(name).inputs == ("user", "user_tags")
    assert small(name, n_tags=0).inputs == ("user",)


@pytest.mark.parametrize(
    ("setting", "value"), [("n_negatives", 0), ("user_dropout", 1), ("hidden_dim", 2.5)]
)
def test_wrong_settings_are_refused_before_a_log_is_read(setting: str, value: Any) -> None:
    for name in NAMES:
        with pytest.raises(ValueError, match=f"`{setting}` must be"):
            TrainConfig(name, settings={setting: value})


def test_neumf_keeps_to_its_bound_of_memory_for_a_large_catalogue() -> None:
    model = NeuMF(NeuMFConfig(n_items=12_000, n_users=1)).eval()
    largest = []

    def note(module: nn.Module, given: Any, made: Tensor) -> None:
        largest.append(made.nelement())

    for module in model.modules():
        module.register_forward_hook(note)
    with torch.inference_mode():
        model.scores(torch.zeros(64, 1), user=torch.zeros(64, dtype=torch.int64))
    assert max(largest) <= 64 * 12_001 * 2 * model.config.hidden_dim


# --- whole trainings


def tastes(user_ids: list[Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two kinds of people, each of whom draws from a half of 24 items; the kind is a tag."""
    rng = np.random.default_rng(1)
    rows = [
        (user, f"item {int(item) + 12 * (place % 2):02}", time)
        for place, user in enumerate(user_ids)
        for time, item in enumerate(rng.permutation(12)[: 5 + place % 4])
    ]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    kinds = ["even" if place % 2 == 0 else "odd" for place in range(len(user_ids))]
    return log, pd.DataFrame({"user_id": user_ids, "kind": kinds})


USER_IDS = {"string": [f"user {n}" for n in range(40)], "int64": [2**53 + n for n in range(40)]}
SMALL = {"epochs": 6, "batch_events": 20, "learning_rate": 0.03, "threads": 1, "patience": 6}


def make(name: str, kind: str, out: Path, *, tags: bool, epochs: int = 6, **more: Any) -> Run:
    log, people = tastes(USER_IDS[kind])
    recipe = DataRecipe(tag_cols=("kind",)) if tags else DataRecipe()
    config = TrainConfig(name, settings={"hidden_dim": 8}, **SMALL | {"epochs": epochs})
    users = people if tags else None
    return train(log, config, users=users, recipe=recipe, out=out, **more)


@pytest.mark.parametrize(("kind", "tags"), [("string", True), ("int64", False)])
@pytest.mark.parametrize("name", NAMES)
def test_a_run_learns_which_user_takes_what_and_is_kept(
    name: str, kind: str, tags: bool, tmp_path: Path
) -> None:
    run = make(name, kind, tmp_path / "run", tags=tags)
    assert run.metrics["valid"]["hit_rate@10"] > 0.8  # by chance 10 of about 18 items left
    again = Run.load(run.directory)
    assert again.model.inputs == (("user", "user_tags") if tags else ("user",))
    references = [
        TorchRecommender(r.model, r.split.catalogue, users=r.split.users) for r in (run, again)
    ]
    users = [USER_IDS[kind][0], USER_IDS[kind][1], None]
    one, other = (reference.scores([[], [], []], SideInputs(users)) for reference in references)
    assert np.array_equal(one, other)
    if tags:
        ids = run.split.catalogue.item_ids.tolist()
        given = references[0].scores([[], []], SideInputs(None, [["even"], ["odd"]]))[:, 1:]
        for scores, expected in zip(given, (0, 1), strict=True):
            best = [int(ids[row][-2:]) // 12 for row in np.argsort(-scores)[:8]]
            assert best.count(expected) >= 7, "a cold user with a tag is answered by it"


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_training_and_a_final_one_come_out_bit_for_bit(
    name: str, tmp_path: Path
) -> None:
    class Stop:
        def on_start(self, n_epochs: int) -> None:
            pass

        def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
            if (epoch, step) == (2, 4):
                raise KeyboardInterrupt

        def on_epoch(self, record: EpochRecord) -> None:
            pass

    def weights(run: Run) -> bytes:
        return (run.directory / "weights.safetensors").read_bytes()

    whole = make(name, "string", tmp_path / "whole", tags=True, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        make(name, "string", tmp_path / "run", tags=True, epochs=2, progress=Stop())
    resumed = make(name, "string", tmp_path / "run", tags=True, epochs=2, resume=True)
    assert weights(resumed) == weights(whole)
    finals = [
        train_final(run, out=tmp_path / f"final {run.directory.name}") for run in (whole, resumed)
    ]
    assert weights(finals[0]) == weights(finals[1]) != weights(whole)
    assert Run.load(finals[0].directory).split.final


# --- ids that no file can hold


def log_of_users(*users: object) -> pd.DataFrame:
    rows = [(user, item, item) for user in users for item in range(6)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


@pytest.mark.parametrize("users", [(-1, 2, 3), ("-1.0", "2.0", "3.0")])
def test_a_user_id_that_means_no_user_is_refused_before_the_training(
    users: tuple[object, ...], tmp_path: Path
) -> None:
    config, log = TrainConfig("neumf", {"hidden_dim": 8}, epochs=2), log_of_users(*users)
    for training in (train, partial(tune, minutes=0.1)):
        with pytest.raises(
            ValueError, match="there is a user -1, which stands for an unknown user"
        ):
            training(log, config, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_model_without_users_accepts_such_an_id(tmp_path: Path) -> None:
    run = train(log_of_users(-1, 2, 3), TrainConfig("popularity"), out=tmp_path / "run")
    assert run.split.interactions.user_ids.tolist() == [-1, 2, 3]


def test_a_log_made_by_hand_with_an_id_twice_is_refused_before_training(
    tmp_path: Path,
) -> None:
    log, report = load_interactions(log_of_users(1, 2, 3))
    twice = replace(log, item_ids=log.item_ids // 2)
    with pytest.raises(ValueError, match="holds the item id 0 twice"):
        train_log(twice, report, DataRecipe(), TrainConfig("popularity"), out=tmp_path / "run")
    assert not list(tmp_path.iterdir())
