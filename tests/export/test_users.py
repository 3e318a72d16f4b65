"""Files that know their users: written only when allowed, answering like the torch model."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from attnrec.export import export
from attnrec.runtime import Recommender
from attnrec.runtime.model_file.format import score_tolerance
from attnrec.runtime.side_inputs import SideInputs
from attnrec.train import DataRecipe, Run, TrainConfig, train
from attnrec.train.evaluation.torch_recommender import TorchRecommender

ITEM_IDS = {"string": [f"item {n}" for n in range(24)], "int64": [2**53 + n for n in range(24)]}
USER_IDS = {"string": [f"user {n}" for n in range(30)], "int64": [7 * n - 60 for n in range(30)]}
# The types of item and user ids are independent.
KINDS = [("string", "int64", True), ("int64", "string", False)]


def make_run(model: str, items: str, users: str, tags: bool, out: Path) -> Run:
    rng = np.random.default_rng(2)
    rows = [
        (user, ITEM_IDS[items][item], time)
        for user in USER_IDS[users]
        for time, item in enumerate(rng.permutation(24)[: rng.integers(1, 9)])
    ]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    kinds = ["|".join(["a", "b", "c"][: n % 4]) for n in range(30)]
    people = pd.DataFrame({"user_id": USER_IDS[users], "kind": kinds}) if tags else None
    config = TrainConfig(model, {"hidden_dim": 8}, epochs=2, batch_events=20, learning_rate=0.05)
    recipe = DataRecipe(tag_cols=("kind",)) if tags else DataRecipe()
    return train(log, config, users=people, recipe=recipe, out=out)


@pytest.fixture(
    scope="module",
    params=[(m, *k) for m in ("user-item-attention", "neumf") for k in KINDS],
    ids=str,
)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Recommender]:
    run = make_run(*request.param, tmp_path_factory.mktemp("users") / "run")
    file = run.directory / "model.onnx"
    report = export(run, file, allow_users=True)
    assert report.n_faults == 0
    return run, Recommender.load(file)


def test_a_file_says_that_it_knows_users_and_of_which_type(made: tuple[Run, Recommender]) -> None:
    run, recommender = made
    info = recommender.info
    assert info.inputs[4:] == run.model.inputs
    assert info.user_id_type == ("string" if isinstance(run.split.users.ids[0], str) else "int64")
    assert info.n_users == 30 and recommender.selftest() >= 4


def test_users_strangers_and_tags_are_answered_like_in_torch(
    made: tuple[Run, Recommender],
) -> None:
    run, recommender = made
    reference = TorchRecommender(run.model, run.split.catalogue, users=run.split.users)
    ids = run.split.catalogue.item_ids.tolist()
    known = run.split.users.ids.tolist()
    asked: list[tuple[Any, Any]] = [(known[3], None), (known[7], None), (None, None)]
    asked.append(("nobody I know" if isinstance(known[0], str) else 10**18, None))
    if "user_tags" in run.model.inputs:
        asked += [(known[3], ["b"]), (None, ["a", "c"]), (known[3], ["no such tag"])]
    seen = []
    for user, tags in asked:
        (truth,) = reference.scores([ids[:2]], SideInputs([user], [tags]))[:, 1:]
        scores = recommender.score(ids[:2], ids, user=user, user_tags=tags)
        assert scores == pytest.approx(
            truth.tolist(), abs=score_tolerance(float(np.abs(truth).max()))
        )
        seen.append(tuple(scores))
    assert len(set(seen[:3])) == 3, "two users and a stranger are three"
    assert seen[3] == seen[2], "who is unknown is a stranger, like nobody at all"
    if "user_tags" in run.model.inputs:
        assert len(set(seen[:6])) == 5 and seen[6] == seen[0], "unknown tags are none given"


def test_user_ids_leave_the_machine_only_when_somebody_says_so(
    made: tuple[Run, Recommender], tmp_path: Path
) -> None:
    run, _ = made
    with pytest.raises(ValueError, match=r"30 user ids, which anyone .* `allow_users`"):
        export(run, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_model_of_pairs_has_no_table_to_round(made: tuple[Run, Recommender]) -> None:
    with pytest.raises(ValueError, match="nothing to quantize"):
        export(made[0], made[0].directory / "small.onnx", "int8", allow_users=True)
