"""Rules and slates of a request, on a committed file whose items have tags and a price."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnrec.runtime import Recommender, Rules, Slate
from attnrec.runtime.slates import tags_of_items

FORMAT_1 = Path(__file__).parents[1] / "data" / "format-1"


@pytest.fixture(scope="module")
def shop() -> Recommender:
    return Recommender.load(FORMAT_1 / "tiny-rules.onnx")


@pytest.fixture(scope="module")
def tags(shop: Recommender) -> dict[Any, tuple[str, ...]]:
    return dict(zip(shop.items(), tags_of_items(shop.stored(), shop.info), strict=True))


def test_what_is_required_is_all_that_comes(shop: Recommender, tags: dict[Any, Any]) -> None:
    found = shop.recommend(["sku-1"], k=100, require_all=["kind:mug", "colour:red"])
    wanted = {i for i, own in tags.items() if {"kind:mug", "colour:red"} <= {*own}} - {"sku-1"}
    assert {*found.item_ids} == wanted and found.n_allowed == len(wanted) > 0
    assert found.unknown_tags == ()


def test_or_within_a_column_and_between_columns(shop: Recommender, tags: dict[Any, Any]) -> None:
    asked = ["kind:mug", "kind:a:b", "colour:blue"]
    found = shop.recommend([], k=100, require_any=asked)
    wanted = {i for i, own in tags.items() if "colour:blue" in own and {*asked[:2]} & {*own}}
    assert {*found.item_ids} == wanted != set()


def test_an_unknown_tag_matches_nothing_and_is_named(shop: Recommender) -> None:
    found = shop.recommend(["sku-1"], require_all=["kind:teapot"], boost={"kind:pan": 1.0})
    assert (found.item_ids, found.n_allowed) == ([], 0)
    assert found.unknown_tags == ("kind:teapot", "kind:pan")
    free = shop.recommend(["sku-1"])
    assert shop.recommend(["sku-1"], forbid=["kind:teapot"]).item_ids == free.item_ids
    assert free.unknown_tags is None


def test_a_boost_of_1_is_the_unit_of_the_file(shop: Recommender, tags: dict[Any, Any]) -> None:
    plain = dict(shop.recommend([], k=100).pairs())
    lifted = shop.recommend([], k=100, boost={"kind:mug": 2.0})
    unit = shop.info.rules["boost_unit"]
    for item_id, score in lifted.pairs():
        assert score - plain[item_id] == pytest.approx(
            2 * unit * ("kind:mug" in tags[item_id]), abs=1e-4
        )
    assert lifted.item_ids != [*plain]


def test_an_item_without_the_number_fails_a_bound(shop: Recommender) -> None:
    everything = shop.recommend([], k=100)
    found = shop.recommend([], k=100, at_least={"price": -1e9})
    assert len(found) < len(everything)
    cheap = shop.recommend([], k=100, at_most={"price": np.float32(1.25)})
    dear = shop.recommend([], k=100, at_least={"price": 1.2500001})
    assert {*cheap.item_ids} | {*dear.item_ids} == {*found.item_ids}
    assert not {*cheap.item_ids} & {*dear.item_ids}


def test_candidates_and_excluded_ids_hold_under_rules(shop: Recommender) -> None:
    ids = [*shop.items()]
    found = shop.recommend([], k=100, candidates=ids[:12], exclude=ids[:2], forbid=["colour:red"])
    assert {*found.item_ids} <= {*ids[2:12]} and found.n_allowed == len(found)
    assert shop.recommend([], candidates=[], forbid=["colour:red"]).item_ids == []


def test_rows_of_a_batch_have_their_own_rules(shop: Recommender) -> None:
    rules = [
        None,
        Rules(forbid=["kind:mug"]),
        Rules(at_most={"price": 2.0}, boost={"colour:red": 1.0}),
    ]
    histories = [["sku-1"], ["sku-2", "sku-3"], []]
    batch = shop.recommend_batch(histories, k=7, rules=rules)
    for history, rule, answer in zip(histories, rules, batch, strict=True):
        alone = shop.recommend(history, k=7, **(vars(rule) if rule else {}))
        assert answer.item_ids == alone.item_ids
        assert (answer.n_allowed, answer.unknown_tags) == (alone.n_allowed, alone.unknown_tags)
    same = shop.recommend_batch(histories, k=7, rules=rules[1])
    assert [a.item_ids for a in same] == [
        shop.recommend(h, k=7, forbid=["kind:mug"]).item_ids for h in histories
    ]


def test_an_explanation_names_the_boosts_that_count(
    shop: Recommender, tags: dict[Any, Any]
) -> None:
    boost = {"kind:mug": 1.0, "colour:green": -0.5, "kind:teapot": 9.0}
    item = next(i for i, own in tags.items() if {"kind:mug", "colour:green"} <= {*own})
    explained = shop.explain(["sku-1"], item, boost=boost)
    unit = shop.info.rules["boost_unit"]
    assert explained.boosts == pytest.approx(
        {"kind:mug": unit, "colour:green": -unit / 2}, abs=1e-4
    )
    plain = shop.explain(["sku-1"], item)
    assert plain.boosts is None
    assert explained.score == pytest.approx(plain.score + unit / 2, abs=1e-4)
    assert explained.contributions == pytest.approx(plain.contributions, abs=1e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"require_all": ["mug"]}, r"require_all holds 'mug', .* 'column:value' .* kind, colour"),
        ({"forbid": "kind:mug"}, r"forbid must be a list of tags"),
        ({"require_all": 5}, r"require_all must be a list of tags, not 5"),
        ({"at_most": 5}, r"at_most must map names to numbers, not 5"),
        ({"require_any": ["kind:x"] * 1001}, r"require_any holds 1001 tags, the limit is 1000"),
        ({"boost": {"kind:mug": float("nan")}}, r"boost of 'kind:mug' must be a number, not nan"),
        ({"boost": ["kind:mug"]}, r"boost must map names to numbers"),
        ({"at_least": {"weight": 1}}, r"'weight', which is none of the numbers .*: price"),
        ({"at_most": {"price": "5"}}, r"at_most of 'price' must be a number, not '5'"),
        ({"at_most": {"price": True}}, r"must be a number, not True"),
        ({"diversity": 1.5}, r"diversity must be a number from 0 to 1, not 1.5"),
        ({"max_per": {"size": 1}}, r"max_per names 'size', .* columns of this file: kind, colour"),
        ({"max_per": {"kind": 1.5}}, r"max_per of 'kind' must be a whole number"),
        ({"min_per": {"kind": 1}}, r"min_per names 'kind', and wants a tag"),
        ({"min_per": {"kind:mug": 11}}, r"min_per wants 11 items, and k is 10"),
    ],
)
def test_what_the_file_does_not_know_is_refused(
    shop: Recommender, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        shop.recommend(["sku-1"], **given)


def test_a_wrong_argument_is_one(shop: Recommender) -> None:
    with pytest.raises(TypeError, match="require_none"):
        shop.recommend(["sku-1"], require_none=["kind:mug"])  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"slate must be Slate"):
        shop.recommend_batch([[]], slate=0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"rules has 1 rules for 2 histories"):
        shop.recommend_batch([[], []], rules=[None])


def test_caps_hold_and_the_list_is_full_where_it_can_be(
    shop: Recommender, tags: dict[Any, Any]
) -> None:
    best = shop.recommend([], k=100).item_ids
    for most in (1, 2):
        found = shop.recommend([], k=5, max_per={"kind": most, "colour:red": 2})
        kinds = [tag for i in found.item_ids for tag in tags[i] if tag.startswith("kind:")]
        assert max(map(kinds.count, kinds)) <= most
        assert sum("colour:red" in tags[i] for i in found.item_ids) <= 2
        places = [best.index(i) for i in found.item_ids]
        assert places == sorted(places)
    unlimited = [i for i, own in tags.items() if not own]  # these have no kind
    assert len(shop.recommend([], k=100, max_per={"kind": 1})) == 3 + len(unlimited)


def test_the_least_of_a_tag_is_there_however_low_it_stands(
    shop: Recommender, tags: dict[Any, Any]
) -> None:
    best = shop.recommend([], k=3).item_ids
    missing = next(
        tag for tag in ("colour:green", "kind:mug", "kind:a:b", "kind:чай ☕")
        if sum(tag in tags[i] for i in best) < 2
    )  # fmt: skip
    found = shop.recommend([], k=3, min_per={missing: 2})
    assert len(found) == 3 and sum(missing in tags[i] for i in found.item_ids) >= 2
    assert found.scores == sorted(found.scores, reverse=True)


def test_it_is_there_even_below_the_pool(shop: Recommender, tags: dict[Any, Any]) -> None:
    sunk = {"colour:green": -9.0}
    ten = shop.recommend([], k=10, boost=sunk).item_ids  # the pool of a list of one
    assert not any("colour:green" in tags[i] for i in ten)
    (found,) = shop.recommend([], k=1, boost=sunk, min_per={"colour:green": 1}).item_ids
    assert "colour:green" in tags[found]


@pytest.mark.parametrize("d", [0.2, 0.5, 0.8])
def test_each_place_is_the_one_of_maximal_marginal_relevance(shop: Recommender, d: float) -> None:
    """docs/rules.md, one pair of items at a time."""
    pool = shop.recommend(["sku-1"], k=30)
    vectors = shop.stored().numbers("item_table")[1:]
    own = dict(
        zip(shop.items(), vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True)
    )
    low, high = pool.scores[-1], pool.scores[0]
    relevance = {i: (score - low) / (high - low) for i, score in pool.pairs()}
    chosen: list[Any] = []
    while len(chosen) < 3:

        def gain(item: Any) -> float:
            nearest = max((float(own[item] @ own[other]) for other in chosen), default=0.0)
            return (1 - d) * relevance[item] - d * max(nearest, 0.0)

        chosen.append(max((i for i in relevance if i not in chosen), key=gain))
    assert shop.recommend(["sku-1"], k=3, diversity=d).item_ids == chosen


def test_diversity_trades_scores_for_likeness_and_is_repeatable(shop: Recommender) -> None:
    best = shop.recommend([], k=6)
    answers = [shop.recommend([], k=6, diversity=d) for d in (1e-9, 0.5, 1.0)]
    assert answers[0].item_ids == best.item_ids
    vectors = shop.stored().numbers("item_table")[1:]
    row = {item_id: i for i, item_id in enumerate(shop.items())}

    def likeness(ids: list[Any]) -> float:
        own = vectors[[row[i] for i in ids]]
        own = own / np.linalg.norm(own, axis=1, keepdims=True)
        return float((own @ own.T - np.eye(len(own))).mean())

    values = [likeness(answer.item_ids) for answer in answers]
    assert all(earlier > later for earlier, later in pairwise(values))
    sums = [sum(answer.scores) for answer in answers]
    assert all(earlier > later for earlier, later in pairwise(sums))
    assert shop.recommend([], k=6, diversity=0.5) == answers[1]


def test_slates_of_a_batch_are_those_of_single_calls(shop: Recommender) -> None:
    slate = Slate(0.4, max_per={"kind": 2})
    batch = shop.recommend_batch(
        [["sku-1"], []], k=4, slate=slate, rules=Rules(forbid=["colour:red"])
    )
    for history, answer in zip([["sku-1"], []], batch, strict=True):
        alone = shop.recommend(
            history, k=4, diversity=0.4, max_per={"kind": 2}, forbid=["colour:red"]
        )
        assert answer == alone
