"""Items like an item, on every committed file; nothing here trains or knows the vectors."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from attnrec.runtime import Recommender

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"
WITH_VECTORS = (
    "tiny-string", "tiny-int64", "tiny-int8", "tiny-int8-blocks", "tiny-int4", "tiny-top-k-blocks",
)  # fmt: skip


@pytest.fixture(params=[*WITH_VECTORS, "tiny-markov-chain"])
def file(request: pytest.FixtureRequest) -> Path:
    """Files of models that have similar items."""
    return FORMAT_1 / f"{request.param}.onnx"


@pytest.fixture
def knowing(file: Path) -> Recommender:
    return Recommender.load(file)


@pytest.fixture
def catalogue(file: Path) -> list[Any]:
    content = json.loads(file.with_suffix(".expected.json").read_text("utf-8"))
    ids: list[Any] = content["catalogue"]
    return ids


def test_others_come_in_order_and_never_the_item_itself(knowing, catalogue) -> None:
    ids = catalogue
    everything = knowing.recommend([], len(ids), exclude_seen=False)
    titles = dict(zip(everything.item_ids, everything.titles or ids, strict=True))
    for item in ids[:5]:
        found = knowing.similar(item, len(ids) + 5)
        assert sorted(map(str, found.item_ids)) == sorted(str(i) for i in ids if i != item)
        assert found.scores == sorted(found.scores, reverse=True)
        few = knowing.similar(item, 3)
        assert (few.item_ids, few.scores) == (found.item_ids[:3], found.scores[:3])
        assert few.kind == ("next" if "markov" in knowing.info.model else "cosine")
        named = None if everything.titles is None else [titles[i] for i in few.item_ids]
        assert few.titles == named
    assert len(knowing.similar(ids[0])) == 10


@pytest.mark.parametrize("file", WITH_VECTORS, indirect=True)
def test_cosines_are_mutual_and_at_most_one(knowing, catalogue) -> None:
    there, back = (dict(knowing.similar(item, len(catalogue)).pairs()) for item in catalogue[:2])
    assert there[catalogue[1]] == pytest.approx(back[catalogue[0]], abs=1e-6)
    assert all(abs(score) <= 1 + 1e-6 for score in there.values())


@pytest.mark.parametrize("file", ["tiny-markov-chain"], indirect=True)
def test_a_model_without_vectors_answers_with_what_it_recommends_after_the_item(
    knowing, catalogue
) -> None:
    after = knowing.recommend(catalogue[2:3], 6, exclude=catalogue[2:3])
    found = knowing.similar(catalogue[2], 6)
    assert (found.item_ids, found.scores) == (after.item_ids, after.scores)


@pytest.mark.parametrize("name", ["tiny-popularity", "tiny-users"])
def test_a_model_without_similar_items_refuses(name) -> None:
    recommender = Recommender.load(FORMAT_1 / f"{name}.onnx")
    item = recommender.recommend([], 1).item_ids[0]
    with pytest.raises(ValueError, match="same as after an empty history") as error:
        recommender.similar(item)
    assert repr(item) in str(error.value)


def test_unavailable_items_are_not_among_them(file, knowing, catalogue) -> None:
    item = catalogue[0]
    gone = knowing.similar(item, 3).item_ids
    rest = Recommender.load(file, unavailable=gone)
    assert rest.similar(item, 5).item_ids == knowing.similar(item, 8).item_ids[3:]
    # What is out of stock has similar items, which is when they are needed.
    instead = rest.similar(gone[0]).item_ids
    assert instead and not {*instead} & {*gone}


def test_unknown_items_and_wrong_arguments_are_named(recommender, expected) -> None:
    unknown = expected["unknown_ids"][0]
    with pytest.raises(ValueError, match="none of the items of this file") as error:
        recommender.similar(unknown)
    assert repr(unknown) in str(error.value)
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        recommender.similar(expected["catalogue"][0], 0)
    with pytest.raises(ValueError, match="item_id"):
        recommender.similar(1.5)


def test_a_session_has_no_file_to_read(path, expected) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with pytest.raises(ValueError, match=r"use Recommender\.load"):
        Recommender.from_session(session).similar(expected["catalogue"][0])


def test_the_vectors_are_read_once_by_all_threads(knowing, catalogue, monkeypatch) -> None:
    reads, read = [], Recommender.stored

    def counted(self: Recommender) -> object:
        reads.append(1)
        return read(self)

    monkeypatch.setattr(Recommender, "stored", counted)
    item = catalogue[0]
    with ThreadPoolExecutor(4) as pool:
        answers = [*pool.map(lambda _: knowing.similar(item), range(12))]
    assert (len(reads), answers) == (1, answers[:1] * 12)
    assert pickle.loads(pickle.dumps(knowing)).similar(item) == answers[0]
