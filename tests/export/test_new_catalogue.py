"""Another catalogue for a trained run: new items are known by what describes them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from attnrec.export import export
from attnrec.runtime import DataError, Recommender
from attnrec.train import Run, TrainConfig, train
from attnrec.train.models.base import catalogue_scores

KINDS, N = ("bright lamp", "woven rug", "china cup", "iron pot"), 40
MODELS = {
    "fusion": {"hidden_dim": 8, "content_weight": 1.0},
    "sasrec": {"hidden_dim": 8, "dropout": 0.0},
    "attention-pool": {"hidden_dim": 8, "dropout": 0.0},
}


def items() -> pd.DataFrame:
    """Every fourth item is of the same kind."""
    names = [f"{KINDS[i % 4]}, model {i}" for i in range(N)]
    codes = {"price": np.arange(N) * 0.5, "code": [f"X{i}" for i in range(N)]}
    return pd.DataFrame({"item_id": [f"i{i:02}" for i in range(N)], "title": names, **codes})


def log() -> pd.DataFrame:
    """People stay with a kind."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{u}", f"i{4 * int(rng.integers(N // 4)) + u % 4:02}", t)
        for u in range(80)
        for t in range(int(rng.integers(4, 12)))
    ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


@pytest.fixture(scope="module", params=MODELS)
def run(request, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("run") / "run"
    config = TrainConfig(
        request.param, MODELS[request.param], epochs=30, batch_events=50, learning_rate=0.01
    )
    return train(log(), config, items=items(), out=out)


NEW = pd.DataFrame(
    {
        "item_id": ["new lamp", "new cup", "new thing"],
        "title": ["lamp, very bright", "cup of china", "zeppelin"],
        "price": np.nan,
        "code": ["Y1", "Y2", "Y3"],
    }
)


def grown(run: Run) -> Run:
    """Two items are gone, three are new."""
    return run.with_catalog(pd.concat([NEW, items()[2:]], ignore_index=True))


def test_trained_items_keep_their_scores_and_gone_ones_have_none(run: Run) -> None:
    after = grown(run)
    catalogue = after.split.catalogue
    assert after.metrics.catalogue == {"n_trained": 38, "n_new": 3, "n_gone": 2, "n_unlike": 1}
    assert catalogue.item_ids[38:].tolist() == NEW["item_id"].tolist()
    assert not {"i00", "i01"} & set(catalogue.item_ids)
    before = run.split.catalogue.item_ids.tolist()
    kept = [1 + before.index(item) for item in catalogue.item_ids[:38]]
    assert torch.equal(after.model.item_table()[1:39], run.model.item_table()[kept])
    if run.config.model == "fusion":  # the share of a count depends on what is gone
        return
    with torch.no_grad():
        for history in (["i05", "i09"], ["i02"], []):
            known = (before, catalogue.item_ids.tolist())
            rows = [[1 + ids.index(item) for item in history] or [0] for ids in known]
            pairs = zip((run.model, after.model), rows, strict=True)
            one, other = (catalogue_scores(m, torch.tensor([row]))[0] for m, row in pairs)
            assert torch.allclose(one[kept], other[1:39], atol=1e-6)


def test_transitions_of_trained_items_are_those_of_before_without_what_is_gone(run: Run) -> None:
    if run.config.model != "fusion":
        pytest.skip("counts are of fusion")
    after = grown(run)
    before, now = (r.split.catalogue.item_ids.tolist() for r in (run, after))
    for item in ("i04", "i21", "i39"):
        found = []
        for r, ids in ((run, before), (after, now)):
            row = torch.tensor([[1 + ids.index(item)]])
            rows, weight = r.model.counts.neighbours_of(row)[0]
            listed = zip(rows[0].tolist(), weight[0, 0].tolist(), strict=True)
            found.append({ids[place - 1]: w for place, w in listed if place and w})
        assert found[0] and found[1] == {n: w for n, w in found[0].items() if n in now}


def test_a_new_item_is_recommended_asked_with_and_explained(run: Run, tmp_path: Path) -> None:
    report = export(grown(run), tmp_path / "model.onnx")
    assert report.n_faults == 0
    file = Recommender.load(tmp_path / "model.onnx")
    file.selftest()
    lamps = [f"i{i:02}" for i in range(4, N, 4)]
    among = file.recommend(lamps[:4], k=2, candidates=["new lamp", "new cup"])
    assert among.item_ids[0] == "new lamp" and among.titles[0] == "lamp, very bright"
    asked = file.recommend(["new lamp", "new lamp"], k=10)
    assert asked.n_known == 2
    assert len(asked.item_ids) == 10 and "new lamp" not in asked.item_ids
    assert "new lamp" in file.similar(file.similar("new lamp", k=1).item_ids[0], k=N).item_ids
    assert file.recommend(["i00"], k=3).n_known == 0
    assert file.info.n_items == 41
    stored = dict(file.info.metrics)
    assert stored["of"] == "the catalogue of the training"
    assert stored["catalogue"]["n_new"] == 3


def test_its_vector_is_the_mean_of_those_it_resembles(run: Run) -> None:
    after = grown(run)
    ids, vectors = after.split.catalogue.item_ids.tolist(), after.model.item_table().detach()[1:]
    lamps = [ids.index(f"i{i:02}") for i in range(4, N, 4)]
    new = vectors[ids.index("new lamp")]
    assert torch.cosine_similarity(new, vectors[lamps].mean(dim=0), dim=0) > 0.85


def test_what_resembles_nothing_has_no_vector(run: Run) -> None:
    after = grown(run)
    assert torch.equal(after.model.item_table()[-1], torch.zeros(8))
    assert after.model.item_table().isfinite().all()


def test_numbers_and_words_are_compared_as_in_the_training(run: Run) -> None:
    """The words of a catalogue that is all new but one lamp are weighed as they were."""
    lamp = items()[4:5]
    many = pd.concat([lamp, *(NEW.assign(item_id=NEW["item_id"] + str(i)) for i in range(30))])
    few = run.with_catalog(pd.concat([lamp, NEW]), allow_smaller=True)
    most = run.with_catalog(many, allow_smaller=True)
    assert torch.allclose(few.model.item_table()[2], most.model.item_table()[2], atol=1e-6)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (items()[10:], r"10 of 40 trained items are not in the catalogue \(25%.*`allow_smaller`"),
        (items().assign(item_id="x" + items()["item_id"]), "none of the 40 items"),
        (items()[:0], "there is a header but no row"),
        (items().drop(columns="price"), "no column 'price'"),
        (items().rename(columns={"item_id": "sku"}), "no column 'item_id'"),
    ],
)
def test_a_wrong_table_is_refused(run: Run, table: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        run.with_catalog(table)
    if "allow" in message:
        assert run.with_catalog(table, allow_smaller=True).split.catalogue.n_items == 30


def test_a_catalogue_takes_the_place_of_that_of_the_training_alone(run: Run) -> None:
    with pytest.raises(ValueError, match="this run has another catalogue already"):
        grown(run).with_catalog(items())


def test_columns_that_were_not_read_in_training_are_not_read_now(tmp_path: Path) -> None:
    titles = items()[["item_id", "title"]]
    run = train(log(), TrainConfig("sasrec", {"hidden_dim": 8}, epochs=1), items=titles,
                out=tmp_path / "run")  # fmt: skip
    broken = [[1.0], *([1.0, 2.0] for _ in range(N - 1))]  # vectors that would be refused
    after = run.with_catalog(titles.assign(image=broken, maker="of the house"))
    assert not after.split.catalogue.vectors and after.split.catalogue.attributes is None


def test_a_guessed_vector_is_shorter_than_a_trained_one(run: Run) -> None:
    lengths = grown(run).model.item_table().norm(dim=1)
    assert run.model.config.logits == "cosine"
    assert lengths[1:39].tolist() == pytest.approx([1.0] * 38, abs=1e-5)
    assert lengths[39:].tolist() == pytest.approx([0.85, 0.85, 0.0], abs=1e-5)


def test_without_descriptions_there_may_be_less_but_nothing_new(tmp_path: Path) -> None:
    run = train(log(), TrainConfig("sasrec", {"hidden_dim": 8}, epochs=1), out=tmp_path / "run")
    less = run.with_catalog(items()[2:])
    assert less.split.catalogue.n_items == 38
    with pytest.raises(DataError, match=r"3 items of the catalogue are new, such as 'new lamp'.*"):
        grown(run)
    counted = train(log(), TrainConfig("popularity"), out=tmp_path / "counted")
    with pytest.raises(ValueError, match="popularity has no item vectors"):
        counted.with_catalog(items())


def test_the_order_of_the_table_is_that_of_new_items_alone(run: Run) -> None:
    table = pd.concat([items()[2:], NEW], ignore_index=True)
    one = run.with_catalog(table)
    other = run.with_catalog(table[::-1])
    ids = [r.split.catalogue.item_ids.tolist() for r in (one, other)]
    assert ids[0][:38] == ids[1][:38] and ids[0][38:] == ids[1][:37:-1]
    assert torch.equal(one.model.item_table()[:39], other.model.item_table()[:39])
