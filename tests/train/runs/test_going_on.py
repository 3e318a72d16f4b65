"""Going on from another run: what is taken over, where new items begin, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnrec.runtime.errors import DataError, RunError
from attnrec.train import DataRecipe, Run, TimeSplit, TrainConfig, train, train_final
from attnrec.train.fitting.state import EpochRecord
from attnrec.train.models import MODELS
from attnrec.train.report.verdicts import origin

DAY, START = 86_400, 1_700_006_400  # midnight
TWO_DAYS = TimeSplit(test_days=2)
SMALL = TrainConfig(
    "sasrec", {"hidden_dim": 16, "max_len": 10}, TWO_DAYS, epochs=2, batch_events=100, threads=1
)
KINDS = ["red", "blue", "green", "old", "new", "big", "small", "round", "square", "tall"]


def walks(days: int) -> pd.DataFrame:
    """60 people who each take 1 of 40 items a day; on day 12 four of them find new ones."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(60):
        item = int(rng.integers(40))
        for day in range(days):
            rows.append((f"u{user}", f"i{item}", START + DAY * day + 60 * user))
            item = (item + int(rng.choice([1, 1, 2]))) % 40
        if days > 12 and user < 4:
            rows.append((f"u{user}", f"late{user % 2}", START + DAY * 12 + 60 * user + 30))
        if days > 12 and 10 <= user < 25:  # the last of them first
            rows.append((f"u{user}", "often", START + DAY * 13 - 60 * user))
    if days > 12:
        rows += [("stranger", "first", START + DAY * 12), ("stranger", "i1", START + DAY * 13)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


OLD = walks(10)
NEW = walks(18)[lambda log: log["item_id"] != "i7"].reset_index(drop=True)  # i7 is gone
ITEMS = pd.DataFrame(
    [
        (name, f"{KINDS[int(name[1:]) % 10]} thing {int(name[1:]) // 2}")
        for name in (f"i{n}" for n in range(40))
    ]
    + [("late0", "blue thing 5"), ("late1", "grey whatsit"), ("first", "")],
    columns=["item_id", "title"],
)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(OLD, SMALL, out=tmp_path_factory.mktemp("base") / "old")


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = replace(SMALL, model="fusion", settings={**SMALL.settings, "ease": False})
    return train(OLD, config, items=ITEMS, out=tmp_path_factory.mktemp("base") / "described")


def still(run: Run) -> TrainConfig:
    """To go on without moving a weight, so that the result is what it began with."""
    return replace(run.config_to_go_on(), epochs=1, learning_rate=1e-30, weight_decay=0.0)


def vector(run: Run, item: str) -> Tensor:
    row = run.split.catalogue.item_ids.tolist().index(item) + 1
    return run.model.state_dict()["item_embedding.weight"][row]


def same(one: dict[str, Tensor], other: dict[str, Tensor], but: str) -> bool:
    names = [name for name in one if but not in name]
    return len(names) > 5 and all(torch.equal(one[n], other[n]) for n in names)


# --- what is taken over


def test_items_keep_their_vectors_by_id_and_everything_else_its_weights(
    old: Run, tmp_path: Path
) -> None:
    run = train(NEW, still(old), init_from=old, out=tmp_path / "next")
    own, its = run.split.catalogue.item_ids.tolist(), old.split.catalogue.item_ids.tolist()
    assert own != its
    kept = [item for item in its if item in own]
    assert len(kept) == 39 and all(torch.equal(vector(run, i), vector(old, i)) for i in kept)
    assert same(old.model.state_dict(), run.model.state_dict(), but="item_embedding")
    start = run.model.state_dict()["item_embedding.weight"][0]
    assert torch.equal(start, old.model.state_dict()["item_embedding.weight"][0])


def test_items_that_are_gone_are_dropped_and_all_are_counted(old: Run, tmp_path: Path) -> None:
    run = train(NEW, still(old), init_from=old, out=tmp_path / "next")
    assert "i7" not in run.split.catalogue.item_ids
    begun = run.metrics.init_from
    assert begun == {
        "run": "old", "seen_until": "2023-11-22 00:59:00 UTC", "n_kept": 39, "n_from_content": 0,
        "n_from_history": 3, "n_fresh": 1, "n_gone": 1,
        "epochs_from_scratch": 2, "learning_rate_from_scratch": 3e-3,
    }  # fmt: skip
    assert Run.load(tmp_path / "next").metrics.init_from == begun
    assert origin(begun) == (
        "old, which had seen events until 2023-11-22 00:59:00 UTC: 39 items with its vectors, "
        "3 new ones by what precedes them, 1 new ones from scratch, 1 of its items gone"
    )


def test_few_epochs_at_a_low_rate_train_further(old: Run, tmp_path: Path) -> None:
    config = old.config_to_go_on()
    assert (config.epochs, config.learning_rate) == (3, 1e-3)
    run = train(NEW, config, init_from=old, out=tmp_path / "next")
    assert len(run.metrics.epochs) == 3
    moved = F.cosine_similarity(vector(run, "i1"), vector(old, "i1"), dim=0)
    assert 0.5 < moved < 1


def test_counts_are_made_again_over_the_log_given(described: Run, tmp_path: Path) -> None:
    run = train(NEW, still(described), items=ITEMS, init_from=described, out=tmp_path / "next")
    again, own = MODELS["fusion"].model(run.model.config), run.model.state_dict()
    again.prepare(run.split)
    counts = {n: value for n, value in again.state_dict().items() if n.startswith("counts.")}
    assert counts and all(torch.equal(own[name], value) for name, value in counts.items())


# --- where new items begin


@pytest.mark.parametrize(
    ("item", "users"), [("late0", [0, 2]), ("often", [*range(15, 25)])], ids=["few", "many"]
)
def test_a_new_item_begins_from_what_precedes_its_first_ten_events(
    item: str, users: list[int], old: Run, tmp_path: Path
) -> None:
    run = train(NEW, still(old), init_from=old, out=tmp_path / "next")
    before: list[Tensor] = []
    for user in users:
        history = NEW[NEW["user_id"] == f"u{user}"].sort_values("timestamp", kind="stable")
        items = history["item_id"].tolist()
        place = items.index(item)
        known = [i for i in items[max(0, place - 10) : place] if i[1:].isdigit()]
        before += [vector(old, name) for name in known]
    expected = F.normalize(torch.stack(before), dim=1).sum(dim=0)
    assert F.cosine_similarity(vector(run, item), expected, dim=0) > 0.9999
    usual = old.model.state_dict()["item_embedding.weight"][1:].norm(dim=1).mean()
    assert torch.isclose(vector(run, item).norm(), usual)


def test_a_new_item_that_is_described_begins_near_what_it_resembles(
    described: Run, tmp_path: Path
) -> None:
    run = train(NEW, still(described), items=ITEMS, init_from=described, out=tmp_path / "next")
    begun = run.metrics.init_from
    assert (begun["n_from_content"], begun["n_from_history"], begun["n_fresh"]) == (1, 2, 1)
    own = vector(run, "late0")  # "blue thing 5": a word of i1, i11, .., a number of i10 and i11
    others = {f"i{n}": vector(described, f"i{n}") for n in range(40)}
    like = {name: float(F.cosine_similarity(own, v, dim=0)) for name, v in others.items()}
    assert "i11" in sorted(like, key=like.__getitem__)[-3:]


# --- what follows


class Watcher:
    """Interrupts after a step."""

    def __init__(self, epoch: int, step: int) -> None:
        self.moment = (epoch, step)

    def on_start(self, n_epochs: int) -> None:
        pass

    def on_step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        if (epoch, step) == self.moment:
            raise KeyboardInterrupt

    def on_epoch(self, record: EpochRecord) -> None:
        pass


def result(run: Run) -> tuple[bytes, Any]:
    metrics = json.loads((run.directory / "metrics.json").read_text())
    for record in metrics["epochs"]:
        del record["seconds"]
    return (run.directory / "weights.safetensors").read_bytes(), metrics


def interrupted(base: Run, out: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        config = base.config_to_go_on()
        train(NEW, config, init_from=base, out=out, progress=Watcher(2, 2))


def test_it_is_resumed_bit_for_bit(old: Run, tmp_path: Path) -> None:
    whole = train(NEW, old.config_to_go_on(), init_from=old, out=tmp_path / "whole")
    out = tmp_path / "run"
    interrupted(old, out)
    resumed = train(NEW, old.config_to_go_on(), init_from=old, out=out, resume=True)
    assert result(resumed) == result(whole)


def test_it_is_not_resumed_from_another_run(old: Run, tmp_path: Path) -> None:
    other = train(OLD, replace(SMALL, seed=1), out=tmp_path / "other")
    out = tmp_path / "run"
    interrupted(old, out)
    config = old.config_to_go_on()
    with pytest.raises(RunError, match="unfinished training with init_from"):
        train(NEW, config, init_from=other, out=out, resume=True)
    with pytest.raises(RunError, match="unfinished training with init_from"):
        train(NEW, config, out=out, resume=True)


def test_its_final_run_goes_on_from_its_weights_with_as_many_epochs(
    old: Run, tmp_path: Path
) -> None:
    held_out = train(NEW, still(old), init_from=old, out=tmp_path / "next")
    final = train_final(held_out, out=tmp_path / "final")
    assert final.split.final and len(final.metrics.epochs) == held_out.metrics.best_epoch == 1
    assert all(torch.equal(vector(final, i), vector(held_out, i)) for i in ("i1", "late0"))
    assert final.metrics.init_from["run"] == "next"
    later = train_final(held_out, walks(20), out=tmp_path / "later")
    assert all(torch.equal(vector(later, i), vector(held_out, i)) for i in ("i1", "late0"))
    assert later.metrics.init_from["n_from_history"] == 1  # i7 is back
    assert later.seen_until() == int(walks(20)["timestamp"].max())
    assert later.metrics.of == "the same recipe on an earlier log"


def test_the_final_run_of_another_one_may_have_a_later_log(old: Run, tmp_path: Path) -> None:
    later = train_final(old, NEW, out=tmp_path / "later")
    again = train_final(
        train(NEW, replace(SMALL, split="leave-one-out"), out=tmp_path / "other"),
        out=tmp_path / "again",
    )
    assert later.metrics.init_from is None and later.metrics.valid == old.metrics.valid
    assert later.data == again.data and "late0" in later.split.catalogue.item_ids
    assert Run.load(tmp_path / "later").split.final
    with pytest.raises(DataError, match=r"the log ends at 2023-11-21 00:59:00 UTC, and .*nothing"):
        train_final(old, OLD[OLD["timestamp"] < START + 7 * DAY], out=tmp_path / "early")


def test_what_went_on_can_be_followed_in_both_ways(old: Run, tmp_path: Path) -> None:
    following = train(NEW, old.config_to_go_on(), init_from=old, out=tmp_path / "next")
    assert following.config_again() == old.config
    third = train(walks(22), following.config_to_go_on(), init_from=following, out=tmp_path / "3")
    assert third.metrics.init_from["run"] == "next"
    assert Run.load(tmp_path / "3").config_again() == old.config


# --- what is refused


def text_of(run: Run, log: pd.DataFrame, tmp_path: Path, **changed: Any) -> str:
    config = replace(run.config_to_go_on(), **changed)
    steps: list[str] = []
    with pytest.raises((DataError, ValueError, RunError)) as refused:
        train(log, config, recipe=run.recipe, init_from=run, out=tmp_path / "next",
              reporting=lambda *step: steps.append(str(step)))  # fmt: skip
    assert not (tmp_path / "next").exists() and not steps
    return str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda log: log[log["timestamp"] < START + 7 * DAY],
            "the log ends at 2023-11-21 00:59:0",
        ),
        (
            lambda log: log[log["timestamp"] < START + 8 * DAY],
            "there is nothing new; give the log",
        ),
        (
            lambda log: log[log["timestamp"] < START + 10 * DAY],
            "the validation window begins at 2023-11-20 00:59:01 UTC, and ",
        ),
        (lambda log: log.assign(item_id=range(len(log))), "none of the 40 items of"),
        (lambda log: log.assign(item_id="x" + log["item_id"]), ", and the log has 'xi"),
        (lambda log: log.rename(columns={"item_id": "sku"}), "'item_id'"),
        (lambda log: log.assign(timestamp=range(len(log))), "has an order and no times"),
    ],
)
def test_a_log_that_does_not_go_on_is_refused_with_dates(
    change: Callable[[pd.DataFrame], pd.DataFrame], words: str, old: Run, tmp_path: Path
) -> None:
    message = text_of(old, change(NEW), tmp_path)
    assert words in message, message
    if "begins at" in message or "ends at" in message:
        assert "old has seen events until 2023-11-22 00:59:00 UTC: " in message


def test_the_window_may_begin_right_after_what_was_seen(old: Run, tmp_path: Path) -> None:
    seen = old.seen_until()
    assert seen is not None
    for start, is_refused in ((seen, True), (seen + 1, False)):
        cut = pd.Timestamp(start + 3 * DAY, unit="s").isoformat()
        config = replace(still(old), split=TimeSplit(test_from=cut, valid_days=3))
        if is_refused:
            with pytest.raises(DataError, match="a later `test_from`"):
                train(NEW, config, init_from=old, out=tmp_path / "next")
        else:
            train(NEW, config, init_from=old, out=tmp_path / "next")


@pytest.mark.parametrize("split", ["leave-one-out", "last-session"])
def test_a_split_by_users_is_refused_with_the_reason(split: str, old: Run, tmp_path: Path) -> None:
    message = text_of(old, NEW, tmp_path, split=split)
    assert message.startswith("`init_from` needs `split=time`: ")
    assert message.endswith(f"old has trained on most of what {split} asks for")


def test_other_models_settings_and_recipes_are_refused(old: Run, tmp_path: Path) -> None:
    other = text_of(old, NEW, tmp_path, model="fusion")
    assert other.startswith("`model` is fusion, and in ") and "sasrec: give run.config_" in other
    wider = text_of(old, NEW, tmp_path, settings={"hidden_dim": 32, "max_len": 10})
    assert wider.startswith("`hidden_dim` is 32, and in ") and " 16: give " in wider
    with pytest.raises(ValueError, match=r"`repeats` is true, and in .* recipe=run\.recipe"):
        train(NEW, old.config_to_go_on(), init_from=old, recipe=DataRecipe(repeats=True))
    with pytest.raises(ValueError, match=r"`init_from` must be a Run, not 'old'; Run\.load"):
        train(NEW, init_from="old")  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["markov-chain", "neumf"])
def test_models_whose_weights_are_not_those_of_items_are_refused(
    model: str, tmp_path: Path
) -> None:
    run = train(OLD, TrainConfig(model, split=TWO_DAYS, epochs=1), out=tmp_path / "old")
    message = text_of(run, NEW, tmp_path)
    assert f"{model} is another kind of model: train from scratch" in message


def test_a_run_of_an_order_is_refused(tmp_path: Path) -> None:
    log = OLD.assign(timestamp=range(len(OLD)))
    run = train(log, replace(SMALL, split="leave-one-out"), out=tmp_path / "old")
    assert "has an order and no times" in text_of(run, NEW, tmp_path, split=TWO_DAYS)


def test_ids_that_were_numbers_and_are_texts_are_refused(tmp_path: Path) -> None:
    numbers = OLD.assign(item_id=OLD["item_id"].str[1:].astype(int))
    run = train(numbers, SMALL, out=tmp_path / "old")
    assert "the log has text item ids such as 'i" in text_of(run, NEW, tmp_path)


def test_text_ids_that_all_look_like_numbers_are_read_as_those_of_the_run(
    tmp_path: Path,
) -> None:
    one_text = OLD.assign(item_id=OLD["item_id"].str[1:].replace("0", "none"))
    run = train(one_text, SMALL, out=tmp_path / "old")
    numbers = NEW[NEW["item_id"].str.fullmatch(r"i[1-9]\d*")]
    numbers = numbers.assign(item_id=numbers["item_id"].str[1:].astype(int))
    following = train(numbers, still(run), init_from=run, out=tmp_path / "next")
    assert following.metrics.init_from["n_kept"] == 38  # without i0 and i7
    assert torch.equal(vector(following, "11"), vector(run, "11"))


def test_a_run_of_described_items_needs_their_table(described: Run, tmp_path: Path) -> None:
    assert text_of(described, NEW, tmp_path).endswith("name the table of the items with `items`")


def test_vectors_of_another_encoder_are_refused(tmp_path: Path) -> None:
    def table(width: int) -> pd.DataFrame:
        rng = np.random.default_rng(0)
        return ITEMS.assign(embedding=[rng.normal(size=width).tolist() for _ in range(len(ITEMS))])

    run = train(OLD, SMALL, items=table(3), out=tmp_path / "old")
    for items, found in ((table(4), "4"), (ITEMS, "none")):
        with pytest.raises(DataError, match=f"has vectors of 3 numbers, and .* it has {found}; "):
            train(NEW, still(run), items=items, init_from=run, out=tmp_path / "next")


def test_the_run_itself_is_not_replaced(old: Run) -> None:
    with pytest.raises(RunError, match="old is the run that this one begins from; name another"):
        train(NEW, old.config_to_go_on(), init_from=old, out=old.directory)
