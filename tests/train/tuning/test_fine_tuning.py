"""From a run to one with rounded item vectors that answers as before."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from attnrec.runtime.errors import DataError, RunError
from attnrec.train import Run, TrainConfig, fine_tune, load_interactions, train, train_final
from attnrec.train.fitting.state import EpochRecord
from attnrec.train.models.sasrec import SASRec, SASRecConfig
from attnrec.train.tuning.fine_tuning import on_log
from attnrec.train.tuning.rounded_student import RoundedStudent, set_table, table_parameter
from attnrec.train.tuning.rounding import round_table

SMALL = TrainConfig(
    "sasrec", settings={"hidden_dim": 32, "max_len": 10}, epochs=4, batch_events=100, threads=1
)


@pytest.fixture(scope="module")
def before(shop_log: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(shop_log, SMALL, out=tmp_path_factory.mktemp("before") / "run")


@pytest.fixture(scope="module")
def after(before: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fine_tune(before, epochs=3, out=tmp_path_factory.mktemp("after") / "run")


class Stopping:
    """Interrupts after an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_start(self, n_epochs: int) -> None:
        pass

    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        pass

    def on_epoch(self, record: EpochRecord) -> None:
        if record.epoch == self.epoch:
            raise KeyboardInterrupt


def test_the_new_run_holds_what_four_bits_can_and_learned_around_it(
    before: Run, after: Run
) -> None:
    assert isinstance(before.model, SASRec) and isinstance(after.model, SASRec)
    loaded = Run.load(after.directory)
    for name, weight in after.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weight)
        if name != "item_embedding.weight":
            assert not torch.equal(before.model.state_dict()[name], weight)
    blocks = after.model.item_table().detach()  # one block of 32 a vector
    shares = blocks / blocks.abs().amax(dim=1, keepdim=True)  # the largest is 7 or 8 steps
    off = [(shares * n - (shares * n).round()).abs().amax(dim=1) for n in (7, 8)]
    assert torch.minimum(*off).max() < 1e-4


def test_training_takes_back_a_part_of_what_rounding_took(before: Run, after: Run) -> None:
    assert isinstance(before.model, SASRec) and isinstance(after.model, SASRec)
    rounded = copy.deepcopy(before.model)
    set_table(rounded, after.model.item_table().detach())

    def lost(model: SASRec) -> float:
        student = RoundedStudent(copy.deepcopy(before.model), copy.deepcopy(model)).train()
        student.prepare(before.split)
        batches = student.batches(before.split, 100).epoch(np.random.default_rng(0))
        with torch.no_grad():
            return float(np.mean([float(student.training_loss(batch)) for batch in batches]))

    assert lost(after.model) < lost(rounded)


def test_the_run_it_came_from_stays_as_it_was(before: Run, after: Run) -> None:
    kept = Run.load(before.directory)
    for name, weight in kept.model.state_dict().items():
        assert torch.equal(before.model.state_dict()[name], weight)
    assert all(weight.requires_grad for weight in before.model.parameters())


def test_its_metrics_say_how_far_its_answers_are_from_those_before(after: Run) -> None:
    told = after.metrics["quantize_aware"]
    assert told["profile"] == "int4" and told["users"] == 56
    assert 0.8 < told["overlap@10"] < 1 and 0.5 < told["same_first"] <= 1
    low, high = told["ndcg@10_change_interval"]
    assert low <= told["ndcg@10_change"] <= high
    best = after.metrics["epochs"][after.metrics["best_epoch"] - 1]
    assert after.metrics["valid"] == best["valid"]


def test_the_same_run_gives_the_same_weights(before: Run, after: Run, tmp_path: Path) -> None:
    again = fine_tune(before, epochs=3, out=tmp_path / "again")
    for name, weight in after.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], weight)


def test_interrupted_it_goes_on_to_the_same_weights(
    before: Run, after: Run, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt) as stopped:
        fine_tune(before, epochs=3, out=out, progress=Stopping(2))
    assert "`resume`" in stopped.value.__notes__[0]
    with pytest.raises(RunError, match="go on with `resume`"):
        fine_tune(before, epochs=3, out=out)
    resumed = fine_tune(before, epochs=3, out=out, resume=True)
    for name, weight in after.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weight)
    assert not out.with_name("run.unfinished").exists()


def test_it_does_not_go_on_from_other_weights(before: Run, after: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        fine_tune(before, epochs=3, out=out, progress=Stopping(1))
    other = replace(before, model=after.model)
    with pytest.raises(RunError, match="init_from"):
        fine_tune(other, epochs=3, out=out, resume=True)


def test_a_place_that_holds_something_else_is_refused_before_the_work(
    before: Run, tmp_path: Path
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match=r"letter\.txt"):
        fine_tune(before, out=tmp_path)
    with pytest.raises(ValueError, match="'int2' is not known; there is: int4"):
        fine_tune(before, quantize_aware="int2", out=tmp_path / "run")


@pytest.mark.parametrize("settings", [{"ease": True, "time_gaps": True}, {"logits": "dot"}])
def test_a_fusion_is_rounded_in_the_part_that_attends(
    settings: dict[str, object], shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    config = TrainConfig(
        "fusion", settings={"hidden_dim": 32, **settings}, epochs=2, batch_events=100, threads=1
    )
    before = train(shop_log, config, out=tmp_path / "before")
    after = fine_tune(before, out=tmp_path / "after")
    assert vars(after.model.config) == vars(before.model.config)
    assert after.metrics["quantize_aware"]["overlap@10"] > 0.8
    for name, counted in before.model.named_buffers():
        assert torch.equal(after.model.get_buffer(name), counted)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("sasrec", {"block": "ligr", "time_gaps": True, "loss": "gbce"}),
        ("attention-pool", {"attention": "dot", "loss": "sampled-softmax"}),
        ("attention-pool", {"attention": "additive"}),
        ("attention-pool", {"attention": "multi-head", "logits": "dot"}),
    ],
)
def test_every_model_with_item_vectors_is_rounded_alike(
    model: str, settings: dict[str, object], shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    config = TrainConfig(
        model, settings={"hidden_dim": 16, **settings}, epochs=2, batch_events=100
    )
    after = fine_tune(train(shop_log, config, out=tmp_path / "a"), out=tmp_path / "b")
    assert after.metrics["quantize_aware"]["overlap@10"] > 0.8


@pytest.mark.parametrize("model", ["popularity", "markov-chain", "neumf"])
def test_a_model_without_item_vectors_is_refused(
    model: str, shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    run = train(shop_log, TrainConfig(model, epochs=1), out=tmp_path / "before")
    with pytest.raises(ValueError, match=f"nothing to round: {model} has no item vectors"):
        fine_tune(run, out=tmp_path / "after")
    assert not (tmp_path / "after").exists()


class SumOfTwo(SASRec):
    """Its item vectors are the sum of two parameters."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__(config)
        self.more = nn.Parameter(torch.randn_like(self.item_embedding.weight))

    def item_table(self) -> torch.Tensor:
        return self.item_embedding.weight + self.more


class Doubled(SASRec):
    """Its item vectors are twice its parameter."""

    def item_table(self) -> torch.Tensor:
        return 2 * self.item_embedding.weight


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(SumOfTwo, "not one parameter: 2 are of their shape"), (Doubled, "are not its parameter")],
)
def test_a_model_that_makes_its_vectors_otherwise_is_refused(
    kind: type[SASRec], reason: str, before: Run, tmp_path: Path
) -> None:
    model = kind(SASRecConfig(before.split.catalogue.n_items, hidden_dim=32, max_len=10)).eval()
    with pytest.raises(ValueError, match=reason):
        fine_tune(replace(before, model=model), out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_another_log_may_have_other_frequencies_of_the_same_items(
    shop_log: pd.DataFrame, tmp_path: Path
) -> None:
    timed = shop_log.assign(timestamp=1_700_000_000 + shop_log["timestamp"])
    before = train(timed, SMALL, out=tmp_path / "before")
    turned = timed.assign(user_id=timed["user_id"] + " again", timestamp=1_800_000_000)
    turned = turned[turned["item_id"] != "item 00"]
    log, report = load_interactions(pd.concat([timed, turned, turned.iloc[::3]]))
    moved_to = on_log(before, log, report)
    ids = [run.split.catalogue.item_ids.tolist() for run in (before, moved_to)]
    assert ids[0] != ids[1] and sorted(ids[0]) == sorted(ids[1])
    with torch.no_grad():
        tables = [run.model.item_table()[1:] for run in (before, moved_to)]  # type: ignore[operator]
    vectors = [dict(zip(i, t.tolist(), strict=True)) for i, t in zip(ids, tables, strict=True)]
    for item, vector in vectors[0].items():
        assert vectors[1][item] == pytest.approx(vector, abs=1e-6)
    assert moved_to.data["n_events"] > before.data["n_events"]
    # What the run before has seen measures nothing.
    asked = moved_to.split.held_out("valid")
    assert asked.users.size and all(user.endswith(" again") for user in asked.users)
    assert moved_to.data["seen_before"] == before.seen_until()


def test_another_log_needs_times_to_tell_what_was_seen_of_it(
    before: Run, shop_log: pd.DataFrame
) -> None:
    log, report = load_interactions(shop_log.iloc[:-1])
    with pytest.raises(DataError, match="no times in common"):
        on_log(before, log, report)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda log: log.replace("item 07", "a new one"), r"1 new \['a new one'\], 1 missing"),
        (lambda log: log[log["item_id"] != "item 07"], r"0 new \[\], 1 missing \['item 07'\]"),
    ],
)
def test_a_log_with_other_items_is_refused(
    change: Callable[[pd.DataFrame], pd.DataFrame],
    reason: str,
    before: Run,
    shop_log: pd.DataFrame,
) -> None:
    log, report = load_interactions(change(shop_log))
    with pytest.raises(DataError, match=reason):
        on_log(before, log, report)


def test_a_final_run_can_be_rounded_and_a_rounded_one_is_not_made_final(
    before: Run, after: Run, tmp_path: Path
) -> None:
    final = train_final(before, out=tmp_path / "final")
    rounded = fine_tune(final, out=tmp_path / "rounded")
    assert Run.load(rounded.directory).split.final
    told = rounded.metrics["quantize_aware"]
    assert told["users"] == 60 and told["overlap@10"] > 0.8 and "ndcg@10_change" not in told
    assert rounded.metrics["valid"] == before.metrics["valid"]
    with pytest.raises(ValueError, match="make the run that it came from final"):
        train_final(after, out=tmp_path / "final of it")


def test_a_student_learns_without_dropout_and_leaves_its_teacher_and_its_vectors(
    before: Run,
) -> None:
    assert isinstance(before.model, SASRec)
    student, teacher = copy.deepcopy(before.model), copy.deepcopy(before.model)
    set_table(student, round_table(teacher.item_table().detach(), torch.randn(100, 32)))
    model = RoundedStudent(teacher, student).train()
    assert not any(module.training for module in model.modules())
    model.prepare(before.split)
    batch = next(iter(model.batches(before.split, 100).epoch(np.random.default_rng(0))))
    model.training_loss(batch).backward()  # type: ignore[no-untyped-call]
    assert table_parameter(student).grad is None
    assert all(weight.grad is None for weight in teacher.parameters())
    assert student.final_norm.weight.grad is not None
