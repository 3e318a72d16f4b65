"""Unavailable items, such as those out of stock: no call returns them."""

import io
import logging
import math
import pickle
from typing import Any

import numpy as np
import onnxruntime
import pytest

from attnrec.runtime import Recommender
from attnrec.runtime.model_file.tensors import StoredTensors


def test_the_rest_of_the_answer_moves_up(path) -> None:
    whole = Recommender.load(path)
    everything = whole.recommend([], whole.info.n_items, exclude_seen=False)
    gone = everything.item_ids[:3] + everything.item_ids[7:8]
    unknown = [10**9] if whole.info.id_type == "int64" else ["no-such-item"]
    rest = Recommender.load(path, unavailable=gone + unknown)
    left = [(item, score) for item, score in everything.pairs() if item not in gone]
    assert rest.recommend([], whole.info.n_items, exclude_seen=False).pairs() == left
    assert rest.recommend([], 5, exclude_seen=False).pairs() == left[:5]
    wanted_ids = everything.item_ids[5:9]
    among = rest.recommend([], 4, candidates=wanted_ids, exclude_seen=False)
    assert among.item_ids == [item for item in wanted_ids if item not in gone]
    (answer,) = rest.recommend_batch([[]], 5, exclude_seen=False)
    assert answer.item_ids == [item for item, _ in left[:5]]


def test_an_unavailable_item_has_no_score_but_still_counts_in_a_history(path) -> None:
    whole = Recommender.load(path)
    first, second = whole.recommend([], 2, exclude_seen=False).item_ids
    rest = Recommender.load(path, unavailable=[first])
    with_it, without_it = rest.score([first], [first, second])
    assert math.isnan(with_it)
    assert without_it == whole.score([first], [first, second])[1]


def test_everything_may_be_unavailable(path) -> None:
    whole = Recommender.load(path)
    rest = Recommender.load(path, unavailable=StoredTensors(path.read_bytes()).item_ids())
    assert rest.recommend([], 10).item_ids == []
    assert rest.recommend_batch([[], []], 10)[1].item_ids == []
    assert whole.recommend([], 10, exclude_seen=False).item_ids != []


def test_ids_of_the_wrong_type_are_named(int64_path, string_path) -> None:
    with pytest.raises(ValueError, match=r"unavailable.*1.5"):
        Recommender.load(int64_path, unavailable=[1.5])
    with pytest.raises(ValueError, match=r"unavailable.*'sku-1'"):
        Recommender.load(string_path, unavailable="sku-1")


AS = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "generator": iter,
    "keys": lambda ids: dict.fromkeys(ids).keys(),
    "array": lambda ids: np.array(ids, dtype=object),
}


@pytest.mark.parametrize("kind", AS)
def test_any_collection_of_ids_may_be_given(path, kind) -> None:
    first, second = Recommender.load(path).recommend([], 2, exclude_seen=False).item_ids
    rest = Recommender.load(path, unavailable=AS[kind]([first, second, second]))
    left = rest.recommend([], 40, exclude_seen=False).item_ids
    assert first not in left and second not in left
    assert set(rest.unavailable) == {first, second}


@pytest.mark.parametrize("wrong", [None, "sku-1", b"sku-1", bytearray(b"1"), 5, object()])
def test_what_is_no_collection_of_ids_is_refused(path, wrong) -> None:
    with pytest.raises(ValueError, match="unavailable must be a list or a set of item ids, not"):
        Recommender.load(path, unavailable=wrong)


def test_what_the_caller_does_with_the_list_later_changes_nothing(path) -> None:
    ids = StoredTensors(path.read_bytes()).item_ids()
    gone = Recommender.load(path).recommend([], 3, exclude_seen=False).item_ids
    rest = Recommender.load(path, unavailable=gone)
    expected = set(gone)
    gone.clear()
    assert set(rest.unavailable) == expected
    for one in (rest, pickle.loads(pickle.dumps(rest))):
        assert expected.isdisjoint(one.recommend([], len(ids), exclude_seen=False).item_ids)
        try:
            alike = one.similar(ids[0], len(ids))
        except ValueError as error:  # of a model without similar items
            assert "same as after an empty history" in str(error)
        else:
            assert expected.isdisjoint(alike.item_ids)
    assert rest.selftest() == Recommender.load(path).selftest()


def test_a_warning_counts_the_known_ids_and_names_others(
    path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Recommender.load(path)
    known = whole.recommend([], 2, exclude_seen=False).item_ids
    unknown: list[Any] = [7**9, 7**10] if whole.info.id_type == "int64" else ["sku-1 ", '"x"']
    assert whole.unavailable == ()
    with caplog.at_level(logging.WARNING, logger="attnrec"):
        rest = Recommender.load(path, unavailable=[*known, *unknown, *known])
        (record,) = caplog.records
        pickle.loads(pickle.dumps(rest))
        Recommender.load(path, unavailable=known)
    assert set(rest.unavailable) == set(known)
    message = record.getMessage()
    assert f"knows 2 of 4 unavailable ids; not {unknown[0]!r}, {unknown[1]!r}" in message
    assert caplog.records == [record]


def test_the_bytes_of_a_file_are_refused_with_a_way_that_works(string_path) -> None:
    content: Any = string_path.read_bytes()
    for wrong in (content, bytearray(content), io.BytesIO(content), b"", None, 5):
        with pytest.raises(
            ValueError, match=r"path must be .* Recommender\.from_session"
        ) as error:
            Recommender.load(wrong)
        assert len(str(error.value)) < 300
    session = onnxruntime.InferenceSession(content)  # as the message says
    assert Recommender.from_session(session).recommend(["NA"]).n_known == 1
    for wrong in (string_path, content):
        with pytest.raises(ValueError, match=r"for a file use Recommender\.load"):
            Recommender.from_session(wrong)
