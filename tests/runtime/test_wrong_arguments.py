"""Each mistake is one ValueError that names the value, the limit and the remedy."""

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnrec.runtime import ModelFileError, Recommender

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"

# Any of the three lists of a call; each must be refused in each place.
NOT_A_LIST_OF_STRINGS: list[tuple[Any, list[str]]] = [
    ([5], ["[0] is 5", "strings", "write it as '5'"]),
    (["NA", np.int64(5)], ["[1] is", "write it as '5'"]),
    ([True], ["[0] is True", "strings", "convert it"]),
    ([1.5], ["[0] is 1.5", "strings", "convert it"]),
    ([b"NA"], ["[0] is b'NA'", "strings", "convert it"]),
    ([None], ["[0] is None", "leave missing ids out"]),
    ([float("nan")], ["[0] is nan", "leave missing ids out"]),
    ([["NA"], ["é"]], ["[0] is ['NA']", "recommend_batch"]),
    (np.array([["NA", "é"]]), ["[0] is ['NA', 'é']", "recommend_batch"]),
    (np.array(["NA", None]), ["[1] is None", "leave missing ids out"]),
    (np.array("NA"), ["must be a list of item ids", "'NA'"]),
    (np.array([1, 2]), ["[0] is 1", "write it as '1'"]),
    ("NA", ["must be a list of item ids", "'NA'"]),
    (b"NA", ["must be a list of item ids", "b'NA'"]),
    (5, ["must be a list of item ids", "5"]),
    ((i for i in ["NA"]), ["must be a list of item ids", "generator"]),
    ({"NA"}, ["must be a list of item ids", "{'NA'}"]),
    ({"NA": 1}, ["must be a list of item ids", "{'NA': 1}"]),
    (Counter(["NA"]).keys(), ["must be a list of item ids", "dict_keys"]),
    (["NA"] * 100_001, ["100001", "limit is 100000", "newest"]),
    (["NA", "\ud800"], ["'\\ud800'", "not valid Unicode", "leave it out"]),
]
NOT_A_LIST_OF_INT64: list[tuple[Any, list[str]]] = [
    (["5"], ["[0] is '5'", "int64", "convert it"]),
    ([100, np.str_("5")], ["[1] is", "int64", "convert it"]),
    ([100.0], ["[0] is 100.0", "int64", "convert it"]),
    ([True], ["[0] is True", "int64", "convert it"]),
    (np.array([100.0]), ["[0] is 100.0", "int64", "convert it"]),
    (np.array([np.nan]), ["[0] is nan", "leave missing ids out"]),
    ([None], ["[0] is None", "leave missing ids out"]),
    ([[100]], ["[0] is [100]", "recommend_batch"]),
    ([100, 2**63], ["9223372036854775808", "int64", "leave it out"]),
    ([-(2**63) - 1], ["-9223372036854775809", "int64", "leave it out"]),
    (np.array([2**63], dtype=np.uint64), ["9223372036854775808", "int64", "leave it out"]),
    (np.array([100], "datetime64[ns]"), ["[0] is", "datetime64", "int64", "convert it"]),
    (np.array([100], "datetime64[s]"), ["[0] is", "datetime", "int64", "convert it"]),
    (np.array([100], "timedelta64[ns]"), ["[0] is", "timedelta64", "int64", "convert it"]),
    ("100", ["must be a list of item ids", "'100'"]),
    (range(100_001), ["100001", "limit is 100000", "newest"]),
]


def refusal(error: pytest.ExceptionInfo[ValueError]) -> str:
    """The message; long enough values are cut, so that a log stays readable."""
    message = str(error.value)
    assert type(error.value) is ValueError and len(message) < 300
    assert "\n" not in message
    return message


def assert_refused(recommender: Recommender, ids: Any, good: list[Any], words: list[str]) -> None:
    """In every place of a call, named by the argument it came in."""
    calls: dict[str, Any] = {
        "history": lambda: recommender.recommend(ids),
        "exclude": lambda: recommender.recommend(good, exclude=ids),
        "candidates": lambda: recommender.recommend(good, candidates=ids),
        "histories[1]": lambda: recommender.recommend_batch([good, ids]),
        "exclude[1]": lambda: recommender.recommend_batch([good, good], exclude=[good, ids]),
        "candidates[1]": lambda: recommender.recommend_batch([good, good], candidates=[good, ids]),
        "item_ids": lambda: recommender.score(good, ids),
    }
    for place, call in calls.items():
        with pytest.raises(ValueError) as error:
            call()
        message = refusal(error)
        for word in words:
            assert word in message, f"{word} is missing in: {message}"
        # Unicode is checked by onnxruntime, which sees all lists of a call at once.
        assert message.startswith(place) or "Unicode" in message


@pytest.mark.parametrize(("ids", "words"), NOT_A_LIST_OF_STRINGS)
def test_what_is_no_list_of_strings_is_refused(
    ids: Any, words: list[str], strings: Recommender
) -> None:
    assert_refused(strings, ids, ["NA"], words)


@pytest.mark.parametrize(("ids", "words"), NOT_A_LIST_OF_INT64)
def test_what_is_no_list_of_int64_is_refused(
    ids: Any, words: list[str], numbers: Recommender
) -> None:
    assert_refused(numbers, ids, [100], words)


def test_none_is_no_list(strings: Recommender) -> None:
    nothing: Any = None
    with pytest.raises(ValueError) as error:
        strings.recommend(nothing)
    assert refusal(error) == "history must be a list of item ids, not None"


@pytest.mark.parametrize(
    ("k", "words"),
    [
        (0, "at least 1, not 0"),
        (-1, "at least 1, not -1"),
        (2.5, "a whole number, not 2.5"),
        (2.0, "a whole number, not 2.0"),
        (True, "a whole number, not True"),
        (np.bool_(True), "a whole number, not"),
        ("3", "a whole number, not '3'"),
        (None, "a whole number, not None"),
    ],
)
def test_k_is_a_whole_number_from_1(k: Any, words: str, strings: Recommender) -> None:
    for call in (strings.recommend, strings.recommend_batch):
        with pytest.raises(ValueError) as error:
            call([], k)
        assert refusal(error).startswith("k must be") and words in str(error.value)


@pytest.mark.parametrize("exclude_seen", ["false", "", 0, 1, []])
def test_exclude_seen_is_true_false_or_none(exclude_seen: Any, strings: Recommender) -> None:
    for call in (strings.recommend, strings.recommend_batch):
        with pytest.raises(ValueError) as error:
            call([], exclude_seen=exclude_seen)
        assert refusal(error) == (
            f"exclude_seen must be True, False or None, not {exclude_seen!r}"
        )


class MissingValue:
    """Like the missing value of pandas, which is neither equal nor unequal to anything."""

    def __ne__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    def __repr__(self) -> str:
        return "<NA>"


def test_a_missing_value_that_refuses_comparison_is_refused(strings: Recommender) -> None:
    missing: Any = MissingValue()
    with pytest.raises(ValueError) as error:
        strings.recommend(["NA", missing])
    assert "history[1] is <NA>" in refusal(error) and "leave missing ids out" in refusal(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user", "u1"), ("user_tags", ["gold"]), ("user_tags", []), ("timestamps", [1, 2]),
        ("request_time", 0),
    ],
)  # fmt: skip
def test_an_input_that_the_file_does_not_declare_is_refused(
    name: str, value: Any, strings: Recommender
) -> None:
    several = {"user": "users", "request_time": "request_times"}.get(name, name)
    calls: list[Any] = [
        lambda: strings.recommend(["NA"], **{name: value}),
        lambda: strings.score([], ["NA"], **{name: value}),
        lambda: strings.score([], [], **{name: value}),
        lambda: strings.recommend_batch([["NA"]], **{several: [value]}),
    ]
    for call in calls:
        with pytest.raises(ValueError) as error:
            call()
        message = refusal(error)
        assert f"does not declare the input {name!r}" in message
        assert "history, exclude, candidates, k" in message and "leave it out" in message


@pytest.mark.parametrize("name", ["exclude", "candidates"])
@pytest.mark.parametrize("lists", [[], [["NA"]], [["NA"]] * 3])
def test_a_batch_has_as_many_lists_as_histories(
    name: str, lists: list[Any], strings: Recommender
) -> None:
    options: dict[str, Any] = {name: lists}
    with pytest.raises(ValueError) as error:
        strings.recommend_batch([[], []], **options)
    assert refusal(error) == f"{name} has {len(lists)} lists for 2 histories; give one for each"


@pytest.mark.parametrize("lists", [5, "NA", iter([["NA"]]), {"NA": 1}, {("NA",)}])
@pytest.mark.parametrize("name", ["histories", "exclude", "candidates"])
def test_a_batch_is_a_list_of_lists(name: str, lists: Any, strings: Recommender) -> None:
    options: dict[str, Any] = {"histories": [["NA"]], name: lists}
    with pytest.raises(ValueError) as error:
        strings.recommend_batch(**options)
    assert refusal(error).startswith(f"{name} must be a list of lists of item ids, not ")


def test_none_and_a_flat_list_are_no_batch(strings: Recommender) -> None:
    none: Any = None
    with pytest.raises(ValueError) as error:
        strings.recommend_batch(none)
    assert refusal(error) == "histories must be a list of lists of item ids, not None"
    with pytest.raises(ValueError) as error:
        strings.recommend_batch(["NA", "é"])
    assert refusal(error) == "histories[0] must be a list of item ids, not 'NA'"


def test_after_a_refusal_the_recommender_answers_as_before(strings: Recommender) -> None:
    before = strings.recommend(["NA"])
    for wrong in (["\ud800"], [None], None):
        ids: Any = wrong
        with pytest.raises(ValueError):
            strings.recommend(ids)
    assert strings.recommend(["NA"]) == before


OF_NO_USE: list[Any] = [
    None, 5, 1.5, True, "x", b"x", [1], ["a"], [[1]], [None], {"a": 1}, {1}, object(), iter([1]),
    np.array(3), np.array([1.5]), np.datetime64("2020-01-01"), 2**70, -1, float("nan"), len,
]  # fmt: skip


@pytest.mark.parametrize("file", ["string", "int64", "users", "times"])
def test_values_of_any_type_are_answered_or_refused_by_a_value_error(file: str) -> None:
    path = FORMAT_1 / f"tiny-{file}.onnx"
    recommender = Recommender.load(path)
    ids = recommender.recommend([], 2, exclude_seen=False).item_ids
    side_inputs = ["user", "user_tags", "timestamps", "request_time"]
    lists = ["exclude", "candidates", "exclude_seen"]
    calls: list[tuple[Any, dict[str, Any], list[str]]] = [
        (recommender.recommend, {"history": ids}, ["history", "k", *lists, *side_inputs]),
        (
            recommender.recommend_batch,
            {"histories": [ids]},
            ["histories", "k", *lists, "users", "user_tags", "timestamps", "request_times"],
        ),
        (
            recommender.score,
            {"history": ids, "item_ids": ids},
            ["history", "item_ids", *side_inputs],
        ),
        (
            recommender.explain,
            {"history": ids, "item_id": ids[0]},
            ["history", "item_id", *side_inputs],
        ),
        (recommender.similar, {"item_id": ids[0]}, ["item_id", "k"]),
        (
            Recommender.load,
            {"path": path},
            ["path", "n_threads", "providers", "verify", "unavailable"],
        ),
        (Recommender.from_session, {}, ["session"]),
    ]
    for call, arguments, names in calls:
        for name in names:
            for value in OF_NO_USE:
                with suppress(ValueError, ModelFileError):
                    call(**{**arguments, name: value})
