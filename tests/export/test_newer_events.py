"""A trend in a file, and newer events for it without training."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attnrec.export import export
from attnrec.runtime import DataError, Recommender
from attnrec.train import DataRecipe, Run, TimeSplit, TrainConfig, train, train_final

pytestmark = pytest.mark.usefixtures("equal_weights_are_traced_once")

DAY, START = 86_400, 1_600_000_000
GIVEN = {"history_decay": 0.6, "count_weight": 0.5, "ease": False}
TREND = {"trend_weight": 1.0, "trend_half_life": 7.0, "trend_fade": 30.0}


def log(n_days: int = 100) -> pd.DataFrame:
    """Events of 80 people, hour by hour; the items 30 to 39 are taken in the last days alone."""
    rng = np.random.default_rng(0)
    n = 10 * n_days
    day = np.arange(n) // 10
    item = np.where(day >= n_days - 15, rng.integers(20, 40, n), rng.integers(0, 30, n))
    ids = [f"i{i:02}" for i in item]
    columns = {"user_id": rng.integers(0, 80, n), "item_id": ids}
    return pd.DataFrame(columns | {"timestamp": START + DAY * day + 3600 * (np.arange(n) % 10)})


@pytest.fixture(scope="module")
def final(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained on every event."""
    out = tmp_path_factory.mktemp("runs")
    settings = {"hidden_dim": 8, "max_len": 10, **GIVEN, **TREND}
    config = TrainConfig(settings=settings, split=TimeSplit(test_days=10), epochs=1)
    return train_final(train(log(), config, out=out / "run"), out=out / "final")


def exported(run: Run, tmp_path: Path, profile: str = "fp32") -> Recommender:
    report = export(run, tmp_path / "model.onnx", profile)
    assert (report.n_faults, report.n_identical) == (0, report.n_test_users)
    return Recommender.load(tmp_path / "model.onnx")


def scores(file: Recommender, request_time: int | None, **options) -> dict[str, float]:
    """By item, of an empty history."""
    times = {} if request_time is None else {"timestamps": [], "request_time": request_time}
    answer = file.recommend([], 40, **times, **options)
    return dict(zip(answer.item_ids, answer.scores, strict=True))


@pytest.mark.parametrize("profile", ["fp32", "int8"])
def test_the_trend_of_a_file_fades_with_the_time_of_the_request(final, tmp_path, profile) -> None:
    file = exported(final, tmp_path, profile)
    lift, until = final.model.trend.lift.tolist(), final.seen_until()
    row = {item: r for r, item in enumerate(final.split.catalogue.item_ids.tolist(), start=1)}
    now, later = scores(file, until), scores(file, until + 30 * DAY)
    never = scores(file, until + 10**9)
    assert lift[row["i35"]] > 0.2 > -0.2 > lift[row["i05"]]
    for item in ("i35", "i05"):
        # The time of the request alone says nothing else: the history is empty.
        assert now[item] - never[item] == pytest.approx(lift[row[item]], abs=1e-4)
        assert later[item] - never[item] == pytest.approx(lift[row[item]] / 2, abs=1e-4)
    assert scores(file, until - 50 * DAY)["i35"] == pytest.approx(now["i35"], abs=1e-4)


def test_candidates_have_the_scores_of_the_whole_catalogue(final, tmp_path) -> None:
    file, until = exported(final, tmp_path), final.seen_until()
    listed = scores(file, until + DAY, candidates=["i35", "i05"])
    every = scores(file, until + DAY)
    assert listed == pytest.approx({item: every[item] for item in listed}, abs=1e-5)


def newer(*items: str, days: float = 1.0) -> pd.DataFrame:
    """Events after the log, each by another person."""
    times = START + int(DAY * (100 + days)) + np.arange(len(items))
    return pd.DataFrame(
        {"user_id": 1000 + np.arange(len(items)), "item_id": items, "timestamp": times}
    )


def test_newer_events_move_the_trend_and_nothing_else(final, tmp_path) -> None:
    before = exported(final, tmp_path)
    run = final.with_recent(pd.concat([log(), newer(*["i07"] * 60, "unknown")]))
    assert run.metrics.newer == {
        "until": START + 101 * DAY + 60, "n_events": 61, "n_unknown": 1,
    }  # fmt: skip
    after = exported(run, tmp_path)
    assert after.info.data["seen_until"] == run.seen_until() == START + 101 * DAY + 60
    assert after.info.metrics["newer"] == run.metrics.newer
    at = run.seen_until() + 10**9  # when every trend has faded
    assert scores(after, at) == pytest.approx(scores(before, at), abs=1e-5)
    gained = scores(after, None)["i07"] - scores(before, None)["i07"]
    assert gained > 1
    # The same counts as a training on all of it would have.
    whole = final.with_recent(newer(*["i07"] * 60))
    assert (whole.model.trend.lift - run.model.trend.lift).abs().max() < 1e-6
    assert not (final.model.trend.lift == run.model.trend.lift).all()  # the run stays as it was


@pytest.mark.parametrize("model", ["popularity", "personal-frequency"])
def test_popularity_counts_newer_events(model, tmp_path) -> None:
    run = train(log(), TrainConfig(model, split=TimeSplit(test_days=10)), out=tmp_path / "run")
    assert exported(run, tmp_path).recommend([], 1).item_ids != ["i07"]
    newest = exported(run.with_recent(newer(*["i07"] * 90)), tmp_path)
    assert newest.recommend([], 1).item_ids == ["i07"]
    # Its test events are counted now: nothing is left to measure it with.
    assert newest.info.final and "test" not in newest.info.metrics
    assert newest.info.metrics["of"] == "the model before newer events were counted"


def test_events_that_are_not_newer_are_refused_with_both_ends(final) -> None:
    with pytest.raises(
        DataError, match=r"end at 2020-12-21 .*log of the run at 2020-12-21 .*none"
    ):
        final.with_recent(log())
    with pytest.raises(
        DataError, match=r"of an item that was trained, such as 'i.*', not as 'zzz'"
    ):
        final.with_recent(newer("zzz", "zzz"))
    ordered = newer("i07", "i08").assign(timestamp=[1, 2])
    with pytest.raises(DataError, match=r"the events end at|an order and no times"):
        final.with_recent(ordered)
    again = final.with_recent(newer("i07"))
    with pytest.raises(ValueError, match="give all of them at once"):
        again.with_recent(newer("i08", days=2))


def test_a_model_without_a_trend_is_refused(tmp_path) -> None:
    config = TrainConfig("markov-chain", split=TimeSplit(test_days=10))
    run = train(log(), config, out=tmp_path / "run")
    with pytest.raises(ValueError, match=r"markov-chain has no trend\. Train popularity"):
        run.with_recent(newer("i07"))


def test_an_item_that_is_new_in_the_catalogue_has_no_trend_until_it_is_taken(tmp_path) -> None:
    ids = [f"i{i:02}" for i in range(40)]
    items = pd.DataFrame({"item_id": ids, "title": [f"thing of kind {i % 4}" for i in range(40)]})
    settings = {"hidden_dim": 8, "max_len": 10, **GIVEN, **TREND}
    config = TrainConfig(settings=settings, split=TimeSplit(test_days=10), epochs=1)
    run = train(log(), config, items=items, out=tmp_path / "run")
    new = pd.DataFrame({"item_id": ["new"], "title": ["thing of kind 1"]})
    grown = run.with_catalog(pd.concat([items, new]))
    row = {item: r for r, item in enumerate(grown.split.catalogue.item_ids.tolist(), start=1)}
    old = {item: r for r, item in enumerate(run.split.catalogue.item_ids.tolist(), start=1)}
    assert grown.model.trend.lift[row["new"]] == 0
    for item in ("i25", "i05"):
        assert grown.model.trend.lift[row[item]] == run.model.trend.lift[old[item]]
    taken = grown.with_recent(newer(*["new"] * 20))
    assert taken.model.trend.lift[row["new"]] > 1
    exported(taken, tmp_path)


def test_a_repeated_event_counts_only_where_the_log_keeps_repeats(tmp_path) -> None:
    first = log().iloc[0]
    again = newer("i07", "i07", "i07").assign(user_id=[0, 0, 1])
    again.loc[len(again)] = [first["user_id"], first["item_id"], START + 102 * DAY]
    for repeats, n_events in ((True, 4), (False, 2)):
        config = TrainConfig("popularity", split=TimeSplit(test_days=10))
        recipe = DataRecipe(repeats=repeats)
        fewer = log()[lambda events: events["item_id"] != "i07"]
        others = pd.concat([fewer, newer("i07").assign(user_id=99, timestamp=START)])
        run = train(others, config, recipe=recipe, out=tmp_path / "run")
        found = run.with_recent(again).metrics.newer
        assert found is not None and found["n_events"] == n_events
