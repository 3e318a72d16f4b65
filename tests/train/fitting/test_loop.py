"""The training loop: it learns, stops at the right epoch, and repeats itself."""

import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from attnrec.train.data.interactions import Interactions
from attnrec.train.evaluation.metrics import Metrics
from attnrec.train.fitting.config import TrainConfig, parse_settings
from attnrec.train.fitting.loop import fit_by_gradient, train_epoch
from attnrec.train.fitting.pace import Pace, learning_rate_factor
from attnrec.train.fitting.state import EpochRecord, TrainingState
from attnrec.train.models.attention_pool import AttentionPool, AttentionPoolConfig
from attnrec.train.models.base import TableModel
from attnrec.train.models.sasrec import SASRec, SASRecConfig
from attnrec.train.models.sasrec_recency import RecencyConfig, RecencySASRec
from attnrec.train.splits.batches import Batch
from attnrec.train.splits.split import Split, divide

SMALL = TrainConfig(settings={"hidden_dim": 16, "max_len": 10}, epochs=3, batch_events=100)


@pytest.fixture(scope="module")
def split(shop_events: Interactions) -> Split:
    return divide(shop_events, "leave-one-out")


def new_model(split: Split, seed: int = 0) -> SASRec:
    torch.manual_seed(seed)
    return SASRec(SASRecConfig(split.catalogue.n_items, max_len=10, hidden_dim=16))


def weights(model: TableModel) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(weight, other[name]) for name, weight in one.items())


class Judge:
    """Gives each epoch its figure in turn, and remembers the weights it saw."""

    def __init__(self, model: TableModel, figures: list[float]) -> None:
        self.model = model
        self.figures = figures
        self.seen: list[dict[str, Tensor]] = []

    def __call__(self) -> Metrics:
        self.seen.append(weights(self.model))
        figure = self.figures[len(self.seen) - 1]
        return Metrics({"ndcg@10": figure}, {}, n_users=1, missing_targets=0.0)


def config(**changes: object) -> TrainConfig:
    return TrainConfig(**{**vars(SMALL), **changes})


def fit(split: Split, settings: TrainConfig = SMALL, seed: int = 0) -> dict[str, Tensor]:
    model = new_model(split, seed)
    fit_by_gradient(model, split, settings, None)
    return weights(model)


def test_the_loss_falls_and_without_validation_the_last_epoch_stays(split: Split) -> None:
    model = new_model(split)
    records = fit_by_gradient(model, split, config(epochs=4), None)
    losses = [record.loss for record in records]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]
    assert [record.valid for record in records] == [None] * 4 and not model.training


def test_training_ends_with_the_weights_of_the_best_epoch(split: Split) -> None:
    model = new_model(split)
    judge = Judge(model, [0.1, 0.3, 0.2, 0.25])
    records = fit_by_gradient(model, split, config(epochs=4), judge)
    assert [r.valid and r.valid["ndcg@10"] for r in records] == judge.figures
    assert same(weights(model), judge.seen[1])
    assert not same(weights(model), judge.seen[3])


def test_training_stops_after_epochs_without_a_better_figure(split: Split) -> None:
    model = new_model(split)
    judge = Judge(model, [0.1, 0.3, 0.3, 0.2, 0.9])
    records = fit_by_gradient(model, split, config(epochs=5, patience=2), judge)
    assert [record.epoch for record in records] == [1, 2, 3, 4]
    assert same(weights(model), judge.seen[1])


def test_figures_that_are_written_alike_keep_the_first_epoch(split: Split) -> None:
    # A reader of the six places written down must find the epoch that was kept.
    model = new_model(split)
    judge = Judge(model, [0.1234561, 0.1234562])
    records = fit_by_gradient(model, split, config(epochs=2), judge)
    assert records[0].valid == records[1].valid
    assert same(weights(model), judge.seen[0])


def test_the_same_seed_gives_the_same_weights_bit_for_bit(split: Split) -> None:
    assert same(fit(split), fit(split))


def test_another_seed_gives_another_model(split: Split) -> None:
    first = fit(split)
    assert not same(first, fit(split, config(seed=1)))  # another order of the data
    assert not same(first, fit(split, seed=1))  # other weights to begin with


def test_training_stops_within_an_epoch_when_the_time_is_over(split: Split) -> None:
    settings, watcher = config(epochs=50, max_minutes=1e-6), Watcher()
    (record,) = fit_by_gradient(new_model(split), split, settings, None, watcher)
    ((_, step, n_steps, _),) = watcher.steps  # never before its first step
    assert record.share == pytest.approx(step / n_steps, abs=1e-4)
    assert 0 < record.share < 1


def test_the_learning_rate_falls_over_the_time_where_that_is_shorter() -> None:
    pace = Pace(config(epochs=50, max_minutes=2.0))
    assert pace.learning_rate_factor(1, 60) == learning_rate_factor(0.5)
    assert pace.learning_rate_factor(40, 6) == learning_rate_factor(0.8)
    assert not pace.is_over(1, 119)
    assert pace.is_over(1, 120)


def test_what_follows_the_last_step_is_planned_in_and_measured_again() -> None:
    settings = config(epochs=50, max_minutes=2.0)
    pace = Pace(settings, expected=(10.0, 20.0))
    assert not pace.is_out_of_time(85)
    assert pace.is_out_of_time(86)  # 30 seconds are needed, and 15 % of them in case it is more
    with pace.checking():
        pass  # next to nothing was needed, so next to nothing will be
    assert not pace.is_out_of_time(119)


def test_a_shorter_training_follows_the_same_schedule(split: Split) -> None:
    # A final run ends at the best epoch of the run before: with the same weights up to there.
    model = new_model(split)
    judge = Judge(model, [0.1, 0.2, 0.3])
    fit_by_gradient(model, split, SMALL, judge)
    shorter = new_model(split)
    records = fit_by_gradient(shorter, split, SMALL, None, pace=lambda: Pace(SMALL, stop_after=2))
    assert len(records) == 2
    assert same(weights(shorter), judge.seen[1])


class Watcher:
    """Records the calls of the loop."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, int, float]] = []
        self.epochs: list[EpochRecord] = []
        self.n_epochs = 0

    def on_start(self, n_epochs: int) -> None:
        self.n_epochs = n_epochs

    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        self.steps.append((epoch, step, n_steps, loss))

    def on_epoch(self, record: EpochRecord) -> None:
        self.epochs.append(record)


def test_progress_is_called_for_every_step_and_epoch(split: Split) -> None:
    watcher = Watcher()
    records = fit_by_gradient(new_model(split), split, config(epochs=2), None, watcher)
    assert watcher.epochs == records
    assert watcher.n_epochs == 2
    n_steps = watcher.steps[0][2]
    assert n_steps > 1
    assert [(epoch, step) for epoch, step, _, _ in watcher.steps] == [
        (epoch, step) for epoch in (1, 2) for step in range(1, n_steps + 1)
    ]
    assert watcher.steps[n_steps - 1][3] == records[0].loss


@pytest.mark.parametrize(
    ("done", "factor"),
    [(0.0, 0.025), (0.01, 0.25), (0.02, 0.5), (0.04, 1.0), (0.52, 0.5), (0.99, 0.02), (1.0, 0.02)],
)
def test_the_learning_rate_warms_up_and_then_falls(done: float, factor: float) -> None:
    assert learning_rate_factor(done) == pytest.approx(factor)


def test_every_step_has_the_learning_rate_of_its_place_in_the_schedule(split: Split) -> None:
    settings = config(learning_rate=0.01, epochs=2)
    model = new_model(split)
    state = TrainingState(model, settings)
    rates: list[float] = []

    def descend(batch: object) -> Tensor:
        rates.extend({group["lr"] for group in state.optimizer.param_groups})
        return torch.zeros(())

    batches = model.batches(split, settings.schedule.batch_events)
    train_epoch(state, batches, settings, descend, Pace(settings))
    places = [step / len(rates) / 2 for step in range(len(rates))]
    assert rates == [0.01 * learning_rate_factor(place) for place in places]


def test_weight_decay_shrinks_matrices_and_no_bias_norm_or_table_of_age() -> None:
    models = [
        RecencySASRec(RecencyConfig(5, 4, 8, decayed_history=True, time_gaps=True)),
        AttentionPool(AttentionPoolConfig(5, 4, 8, attention="multi-head", query="learned")),
    ]
    shrunk = []
    for model in models:
        state = TrainingState(model, config(weight_decay=0.5, learning_rate=0.1))
        state.to(torch.device("cpu"))  # as every training begins
        for weight in model.parameters():
            torch.nn.init.ones_(weight)
            weight.grad = torch.zeros_like(weight)
        state.optimizer.step()
        for name, weight in model.named_parameters():
            (factor,) = weight.unique().tolist()
            assert factor == 1.0 or factor == pytest.approx(0.95), name
            shrunk += [name] if factor < 1 else []
    block = ["query", "key_value", "attention_output", "expand", "contract"]
    assert shrunk == [
        "item_embedding.weight",
        "position_embedding.weight",
        *(f"blocks.{number}.{layer}.weight" for number in (0, 1) for layer in block),
        "sum_map.weight",
        "item_embedding.weight",
        *(f"attention.{layer}.weight" for layer in ("query", "key", "value", "output")),
    ]


WRONG: list[tuple[Callable[[], object], str]] = [
    (
        lambda: TrainConfig(model="bert"),
        "no model 'bert'; there are: fusion, sasrec, attention-pool",
    ),
    (lambda: TrainConfig(settings={"layers": 2}), "has no setting `layers`; it has: calibration"),
    (lambda: TrainConfig(settings={"n_items": 2}), "has no setting `n_items`"),
    (lambda: AttentionPoolConfig(5, attention="hard"), "must be one of dot, additive, self, mul"),
    (lambda: parse_settings("sasrec", ["dropout"]), "NAME=VALUE, not 'dropout'"),
    (lambda: parse_settings("sasrec", ["dropout=0", "dropout=1"]), "`dropout` is given twice"),
    (lambda: TrainConfig(epochs=0), "`epochs` must be a whole number, from 1 to 100000, not 0"),
    (lambda: TrainConfig(threads=0), "`threads` must be .* from 1 to 256, not 0"),
    (lambda: TrainConfig(seed=-1), "`seed` must be .* from 0 to 9223372036854775807, not -1"),
    (lambda: TrainConfig(learning_rate=0.0), "`learning_rate` must be a number above 0, not 0.0"),
    (lambda: TrainConfig(learning_rate=float("nan")), "`learning_rate` .* not nan"),
    (lambda: TrainConfig(weight_decay=-0.1), "`weight_decay` must be a number at least 0"),
    (lambda: TrainConfig(max_minutes=0.0), "`max_minutes` must be a number above 0"),
    (
        lambda: TrainConfig(settings={"hidden_dim": 30, "n_heads": 4}),
        "`hidden_dim=30` is not divisible .*=4",
    ),
    (lambda: TrainConfig(settings={"max_len": 0}), "`max_len` must be .* from 1 to 100000, not 0"),
    (lambda: TrainConfig(settings={"n_blocks": "2"}), "`n_blocks` must be .* not '2'"),
    (lambda: TrainConfig(settings={"decayed_history": "maybe"}), "true or false, not 'maybe'"),
    (lambda: TrainConfig(settings={"dropout": 1.0}), "`dropout` must be .* below 1, not 1.0"),
    (lambda: TrainConfig(settings={"temperature": 0}), "`temperature` must be .* above 0, not 0"),
    (lambda: TrainConfig(settings={"logits": "l2"}), "`logits` must be one of cosine, dot"),
]


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_setting_is_refused_with_its_remedy(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_configuration_survives_json() -> None:
    settings = config(max_minutes=1.5, seed=7)
    assert TrainConfig.from_json(settings.to_json()) == settings


def test_settings_are_read_as_the_type_of_their_field() -> None:
    texts = ["max_len=7", "dropout=0", "logits=dot", "n_blocks=2.5", "depth=3"]
    read = parse_settings("sasrec", texts)
    assert read == {
        "max_len": 7, "dropout": 0.0, "logits": "dot", "n_blocks": "2.5", "depth": "3",
    }  # fmt: skip
    assert isinstance(read["dropout"], float)
    decays = [parse_settings("markov-chain", [f"history_decay={x}"]) for x in ("none", "0.5")]
    assert decays == [{"history_decay": None}, {"history_decay": 0.5}]


def test_no_more_than_the_batch_of_the_step_and_the_next_are_held(split: Split) -> None:
    held: list[int] = []

    class Watcher:
        def on_start(self, n_epochs: int) -> None: ...

        def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
            held.append(sum(isinstance(thing, Batch) for thing in gc.get_objects()))

        def on_epoch(self, record: EpochRecord) -> None: ...

    fit_by_gradient(new_model(split), split, config(epochs=1), None, Watcher())
    assert len(held) > 5
    assert max(held) <= 2
