"""Everything a training computes with is where its model is.

There is no GPU where these tests run. The device "meta" replaces it: it has shapes and no
numbers, and refuses what comes from the processor, as a GPU would.
"""

from typing import get_args

import pytest
import torch
from torch import Tensor

from attnrec.train.fitting.config import Precision, TrainConfig
from attnrec.train.fitting.device import (
    autocast,
    choose_device,
    random_states,
    seed_random_numbers,
    set_random_states,
    training_device,
)
from attnrec.train.fitting.distributed import descent
from attnrec.train.fitting.state import TrainingState
from attnrec.train.layers.loss_config import Loss, LossConfig
from attnrec.train.layers.losses import catalogue_softmax, draw_distinct, sampled_loss
from attnrec.train.models import MODELS
from attnrec.train.models.base import LearnedModel, TableModel, catalogue_scores
from attnrec.train.models.sasrec import SASRec, SASRecConfig
from attnrec.train.splits.batches import Batch

META = torch.device("meta")
CPU = torch.device("cpu")
N = 30
SETTINGS = {
    "sasrec": {"time_gaps": True, "decayed_history": True},
    "fusion": {"ease": True, "count_weight": 1.0, "ease_weight": 0.5},
}
CONFIGS = {
    name: TrainConfig(name, SETTINGS.get(name, {})).model_config(N, n_users=7, n_tags=3)
    for name in MODELS
}
LEARNED = [name for name in MODELS if issubclass(MODELS[name].model, LearnedModel)]
TABLES = [name for name in MODELS if issubclass(MODELS[name].model, TableModel)]


def rows(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.int64, device=META)


def context(inputs: tuple[str, ...]) -> dict[str, Tensor]:
    given = {"user": rows(4), "user_tags": rows(4, 2)}
    given |= {"timestamps": rows(4, 6), "request_time": rows(4)}
    return {name: given[name] for name in inputs}


def test_a_machine_without_a_gpu_trains_on_the_processor() -> None:
    assert choose_device(0) == CPU
    assert choose_device(0, local_rank=1, n_processes=2) == CPU
    if not torch.cuda.is_available():
        assert training_device() == CPU


def test_each_process_of_a_machine_has_a_gpu_of_its_own() -> None:
    assert choose_device(4) == torch.device("cuda", 0)
    assert choose_device(4, local_rank=3, n_processes=4) == torch.device("cuda", 3)
    with pytest.raises(ValueError, match="3 processes cannot share 2 GPUs; start at most 2 "):
        choose_device(2, local_rank=0, n_processes=3)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_scores_where_it_is(name: str) -> None:
    model = MODELS[name].model(CONFIGS[name]).eval().to(META)
    assert model.device == META
    assert catalogue_scores(model, rows(4, 6), **context(model.inputs)).device == META


@pytest.mark.parametrize("name", TABLES)
def test_a_table_model_trains_where_it_is(name: str) -> None:
    model = MODELS[name].model(CONFIGS[name]).to(META)
    assert isinstance(model, TableModel)
    vectors = torch.nn.functional.embedding(rows(4, 6), model.item_table())
    assert model.states(vectors, rows(4, 6) > 0, **context(model.inputs)).device == META


@pytest.mark.parametrize("name", sorted({*LEARNED} - {*TABLES}))
def test_a_pair_model_trains_where_it_is(name: str) -> None:
    model = MODELS[name].model(CONFIGS[name]).to(META)
    assert isinstance(model, LearnedModel)
    tensors = {name: torch.ones(4, 1, dtype=torch.int64) for name in ("history_index", "targets")}
    batch = Batch(
        **tensors,
        weights=torch.ones(4, 1),
        user=torch.ones(4, dtype=torch.int64),
        user_tags=torch.ones(4, 2, dtype=torch.int64),
        negatives=torch.ones(4, 3, dtype=torch.int64),
    )
    assert model.training_loss(batch.to(META)).device == META


@pytest.mark.parametrize("loss", get_args(Loss))
def test_a_loss_and_its_negatives_are_where_the_states_are(loss: Loss) -> None:
    config = LossConfig(loss=loss, n_negatives=9)
    for device in (CPU, META):
        states = torch.ones(5, 8, device=device, requires_grad=True)
        table = torch.ones(N, 8, device=device)
        targets = torch.ones(5, dtype=torch.int64, device=device)
        weights = torch.ones(5, device=device)
        if config.samples_items:
            negatives = draw_distinct(N, config.n_negatives, device)
            value = sampled_loss(config, states, table, targets, negatives, N, weights)
        else:
            value = catalogue_softmax(states, table, targets, weights)
        value.backward()
        assert value.device == device


def test_the_moments_of_the_optimizer_follow_the_weights() -> None:
    model = MODELS["sasrec"].model(CONFIGS["sasrec"])
    assert isinstance(model, LearnedModel)
    state = TrainingState(model, TrainConfig("sasrec"))
    sum(p.sum() for p in model.parameters()).backward()
    state.optimizer.step()
    state.to(META)
    assert state.device == META
    moments = [m["exp_avg"] for m in state.optimizer.state_dict()["state"].values()]
    assert {tensor.device for tensor in (*moments, *model.parameters())} == {META}
    held = [id(p) for group in state.optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_random_numbers_go_on_from_where_they_were_and_begin_anew_from_a_seed() -> None:
    states = random_states()
    first = torch.rand(3)
    set_random_states(states)
    assert torch.equal(torch.rand(3), first)
    seed_random_numbers(2**64 - 1, CPU)
    second = torch.rand(3)
    seed_random_numbers(2**64 - 1, CPU)
    assert torch.equal(torch.rand(3), second)


def test_a_batch_is_moved_and_cut_whole() -> None:
    ones = torch.ones(4, 6, dtype=torch.int64)
    batch = Batch(ones, ones, None, user=torch.arange(4), user_tags=ones)
    moved = batch.to(META)
    assert moved.history_index.device == moved.targets.device == moved.user.device == META
    assert moved.weights is None and moved.negatives is None
    part = batch.rows(slice(1, None, 2))
    assert part.user.tolist() == [1, 3] and part.targets.shape == (2, 6)


@pytest.mark.parametrize("loss", get_args(Loss))
def test_with_bfloat16_the_gradients_are_near_and_weights_stay_float32(loss: Loss) -> None:
    torch.manual_seed(0)
    model = SASRec(SASRecConfig(n_items=N, max_len=6, hidden_dim=32, dropout=0.0, loss=loss))
    history, nobody = torch.randint(1, N, (8, 6)), torch.zeros(8, dtype=torch.int64)
    batch = Batch(history, history.roll(-1, 1), None, nobody, nobody[:, None][:, :0])
    gradients, products = [], []
    for precision in get_args(Precision):
        state = TrainingState(model, TrainConfig("sasrec", precision=precision))
        torch.manual_seed(0)
        model.blocks[0].query.register_forward_hook(lambda *call: products.append(call[2].dtype))
        loss_value = descent(state, 0)(batch)
        assert loss_value.dtype == torch.float32
        gradients.append([p.grad.to_dense().clone() for p in model.parameters()])
    state.optimizer.step()
    assert products[0] == torch.float32
    assert products[-1] == torch.bfloat16
    for exact, rounded in zip(*gradients, strict=True):
        assert rounded.dtype == torch.float32
        assert (exact - rounded).norm() <= 0.1 * exact.norm() + 1e-6
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_without_a_choice_a_processor_computes_in_float32() -> None:
    assert not autocast(None, CPU)._enabled
    assert autocast("bfloat16", CPU)._enabled
