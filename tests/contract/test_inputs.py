"""A model gets every input that it names, in any combination: in validation and in its file."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from attnrec.export import export
from attnrec.runtime import Recommender
from attnrec.train import DataRecipe, Run, TrainConfig, evaluate, train
from attnrec.train.evaluation.metrics import ask
from attnrec.train.evaluation.validation import Validation
from attnrec.train.models import MODELS, ModelKind
from attnrec.train.models.base import TableModel, catalogue_scores
from attnrec.train.splits.batches import left_pad

PARTS = {"user": ("user",), "user_tags": ("user_tags",), "times": ("timestamps", "request_time")}
COMBINATIONS = [
    tuple(name for part in chosen for name in PARTS[part])
    for n in range(len(PARTS) + 1)
    for chosen in itertools.combinations(PARTS, n)
]


@dataclass(frozen=True)
class ManyInputsConfig:
    n_items: int
    n_users: int
    n_tags: int
    max_len: int = 6
    hidden_dim: int = 8


class ManyInputs(TableModel):
    """The newest item and every other input."""

    inputs: tuple[str, ...] = ()

    def __init__(self, config: ManyInputsConfig) -> None:
        super().__init__()
        self.config = config
        self.items = nn.Embedding(config.n_items + 1, config.hidden_dim)
        self.users = nn.Embedding(config.n_users + 1, config.hidden_dim)
        self.tags = nn.Embedding(config.n_tags + 1, config.hidden_dim, padding_idx=0)
        self.hours = nn.Linear(1, config.hidden_dim)

    def item_table(self) -> Tensor:
        return self.items.weight

    def states(self, item_vectors: Tensor, known: Tensor, **context: Tensor) -> Tensor:
        assert {*context} == {*self.inputs}
        state = item_vectors
        if "user" in context:
            state = state + self.users(context["user"]).unsqueeze(1)
        if "user_tags" in context:
            state = state + self.tags(context["user_tags"]).sum(dim=1, keepdim=True)
        if "timestamps" in context:
            gap = context["request_time"].unsqueeze(1) - context["timestamps"]  # (B, T)
            state = state + self.hours(gap.clamp(0, 5).float().unsqueeze(-1))
        return state


def with_inputs(*inputs: str) -> ModelKind:
    return ModelKind(ManyInputsConfig, type("ManyInputs", (ManyInputs,), {"inputs": inputs}))


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """40 users of two kinds, visible only in their items and in their tag."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(40):
        for time in range(4 + user % 6):
            rows.append((f"u{user}", f"i{10 * (user % 2) + int(rng.integers(10))}", 100 + time))
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    people = pd.DataFrame(
        {"user_id": [f"u{n}" for n in range(40)], "kind": [f"k{n % 2}" for n in range(40)]}
    )
    return events, people


def trained(kind: ModelKind, tables, tmp_path, patch: pytest.MonkeyPatch, **settings: Any) -> Run:
    patch.setitem(MODELS, "many-inputs", kind)
    events, people = tables
    config = TrainConfig("many-inputs", epochs=1, batch_events=50, learning_rate=0.05, **settings)
    recipe = DataRecipe(tag_cols=("kind",), repeats=True)
    return train(events, config, users=people, recipe=recipe, out=tmp_path / "run")


@pytest.mark.parametrize("inputs", COMBINATIONS, ids=lambda names: "+".join(names) or "nothing")
def test_validation_and_file_give_a_model_every_input_that_it_names(
    inputs, tables, tmp_path, monkeypatch
) -> None:
    run = trained(with_inputs(*inputs), tables, tmp_path, monkeypatch)
    validation = Validation(run.split, repeats=True)
    held_out, users = validation.held_out, run.split.users
    # The inputs of a training batch with these users.
    rows = 1 + np.array([users.ids.tolist().index(user) for user in held_out.users])
    reference = validation.recommender(run.model)
    given = {
        "user": torch.from_numpy(rows),
        "user_tags": torch.from_numpy(users.tag_rows[rows]),
        "timestamps": left_pad(held_out.timestamps, 6, padding=-1),
        "request_time": torch.from_numpy(held_out.request_times),
    }
    assert given["user_tags"].any() and len(set(held_out.request_times.tolist())) > 1
    histories = left_pad([reference.rows(history) for history in held_out.histories], 6)
    with torch.inference_mode():
        scores = catalogue_scores(run.model, histories, **{name: given[name] for name in inputs})
    report = export(run, run.directory / "model.onnx", allow_users=True)
    assert report.n_identical == report.n_test_users == 40
    file = Recommender.load(run.directory / "model.onnx")
    for answers in (reference, file):
        lists = ask(answers, held_out, exclude_seen=False, inputs=inputs)
        for found, truth in zip(lists, scores, strict=True):
            best = truth[1:].sort(descending=True).values[: len(found)]
            assert found.scores == pytest.approx(best.tolist(), abs=1e-4)
    assert run.metrics["valid"]["ndcg@10"] == pytest.approx(
        evaluate(run.directory / "model.onnx", part="valid").values["ndcg@10"], abs=1e-6
    )


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (("country",), "names the input 'country'; there are: user, user_tags, timestamps"),
        (("timestamps",), "names the input 'timestamps' alone: name both"),
        (("request_time", "user"), "names the input 'request_time' alone: name both"),
    ],
)
def test_inputs_that_nothing_can_feed_are_refused_before_the_training(
    inputs, message, tables, tmp_path, monkeypatch
) -> None:
    with pytest.raises(ValueError, match=message):
        trained(with_inputs(*inputs), tables, tmp_path, monkeypatch)


def test_a_model_of_tags_is_refused_on_a_log_without_any(tables, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(MODELS, "many-inputs", with_inputs("user_tags"))
    with pytest.raises(ValueError, match="no user of this log has any: give a users table"):
        train(tables[0], TrainConfig("many-inputs", epochs=1), out=tmp_path / "run")


def test_a_log_without_tags_is_measured_with_a_warning(
    tables, tmp_path, monkeypatch, caplog
) -> None:
    events, *described = tables
    events = events.assign(timestamp=1_600_000_000 + 3600 * events["timestamp"])
    run = trained(with_inputs("user_tags"), (events, *described), tmp_path, monkeypatch)
    export(run, tmp_path / "model.onnx")
    later = events.assign(timestamp=events["timestamp"] + 100_000_000)
    evaluate(tmp_path / "model.onnx", later)
    assert "uses user_tags, and this log has none" in caplog.text
