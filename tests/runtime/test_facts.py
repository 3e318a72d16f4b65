"""The facts of a file: which are needed, which are ignored, which are refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from attnrec.runtime import Recommender, SelfTestError
from attnrec.runtime.model_file import format as names
from attnrec.runtime.selftest import check_golden

Refused = Callable[..., None]
Unsealed = Callable[[bytes], bytes]
Rewritten = Callable[[bytes, str, str], bytes]
Changed = Callable[[bytes, str, Callable[[Any], Any]], bytes]


def test_a_resealed_file_with_the_same_facts_is_the_same_file(
    path: Path, changed: Changed
) -> None:
    content = path.read_bytes()
    assert changed(content, names.MODEL_KEY, lambda model: model) == content


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("version", ["2", "10", "0", "-1", '"1"', "null", "1.0", "9" * 5000])
def test_another_format_is_refused(
    version: str, verify: bool, string_path: Path, rewritten: Rewritten, refused: Refused
) -> None:
    content = rewritten(string_path.read_bytes(), names.FORMAT_KEY, version)
    words = [f"has format {version[:20]!r}", "up to format 1", "upgrade attnrec"]
    refused(content, *words, verify=verify)


@pytest.mark.parametrize("verify", [True, False])
def test_a_file_for_a_newer_onnxruntime_is_refused(
    verify: bool, string_path: Path, changed: Changed, refused: Refused
) -> None:
    def for_later(versions: dict[str, str]) -> dict[str, str]:
        return versions | {"lowest_onnxruntime": "99.1.0"}

    content = changed(string_path.read_bytes(), names.VERSIONS_KEY, for_later)
    here = onnxruntime.__version__
    words = ["needs onnxruntime 99.1.0", f"here is {here}", "pip install --upgrade onnxruntime"]
    refused(content, *words, verify=verify)


@pytest.mark.parametrize("lowest", ["0.1", "1.9", "1.9.9rc1"])
def test_versions_are_compared_as_numbers(
    lowest: str, string_path: Path, changed: Changed, tmp_path: Path
) -> None:
    def for_earlier(versions: dict[str, str]) -> dict[str, str]:
        return versions | {"lowest_onnxruntime": lowest}

    content = changed(string_path.read_bytes(), names.VERSIONS_KEY, for_earlier)
    (tmp_path / "model.onnx").write_bytes(content)
    assert Recommender.load(tmp_path / "model.onnx").selftest() >= 4


def test_unknown_entries_are_ignored(
    string_path: Path, strings: Recommender, unsealed: Unsealed, tmp_path: Path
) -> None:
    more = names.metadata_entry("attnrec.invented-later", "{not json")
    more += names.metadata_entry("note", "ein Gruß")
    (tmp_path / "model.onnx").write_bytes(names.seal(unsealed(string_path.read_bytes()) + more))
    recommender = Recommender.load(tmp_path / "model.onnx")
    assert replace(recommender.info, sha256=strings.info.sha256) == strings.info
    assert recommender.recommend(["NA"]) == strings.recommend(["NA"])


def test_unknown_facts_about_the_model_are_ignored(
    string_path: Path, strings: Recommender, changed: Changed, tmp_path: Path
) -> None:
    content = changed(string_path.read_bytes(), names.MODEL_KEY, lambda model: model | {"new": 1})
    (tmp_path / "model.onnx").write_bytes(content)
    info = Recommender.load(tmp_path / "model.onnx").info
    assert replace(info, sha256=strings.info.sha256) == strings.info


@pytest.mark.parametrize(
    "key", [names.FORMAT_KEY, names.MODEL_KEY, names.GOLDEN_KEY, names.SEAL_KEY]
)
def test_an_entry_that_stands_twice_is_refused(
    key: str, string_path: Path, unsealed: Unsealed, refused: Refused
) -> None:
    twice = names.seal(unsealed(string_path.read_bytes()) + names.metadata_entry(key, "1"))
    refused(twice, "two metadata entries", key, "export it again")


@pytest.mark.parametrize("key", [names.MODEL_KEY, names.VERSIONS_KEY])
@pytest.mark.parametrize("text", ["{", "5", "[]", "null", "[" * 100_000, '"\\ud800"'])
def test_entries_that_cannot_be_read_are_refused(
    key: str, text: str, string_path: Path, rewritten: Rewritten, refused: Refused
) -> None:
    content = rewritten(string_path.read_bytes(), key, text)
    refused(content, "metadata is incomplete", "export it again")


@pytest.mark.parametrize(
    "rules", [5, [1], {"tags": []}, {"tags": [], "numbers": {}, "boost_unit": 1.0},
              {"tags": {"kind": 5}, "numbers": {}, "boost_unit": 1.0}]
)  # fmt: skip
def test_rules_that_cannot_be_read_are_refused(
    rules: Any, string_path: Path, changed: Changed, refused: Refused
) -> None:
    content = (string_path.parent / "tiny-rules.onnx").read_bytes()
    refused(changed(content, names.RULES_KEY, lambda _: rules), "metadata is incomplete")


@pytest.mark.parametrize("fact", ["id_type", "n_items", "inputs", "max_len", "repeats"])
def test_a_missing_fact_is_named(
    fact: str, string_path: Path, changed: Changed, refused: Refused
) -> None:
    def without(model: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in model.items() if name != fact}

    content = string_path.read_bytes()
    refused(changed(content, names.MODEL_KEY, without), "incomplete", fact)
    unknown = changed(content, names.MODEL_KEY, lambda model: model | {"id_type": "uuid"})
    refused(unknown, "id_type 'uuid'", "export it again")


def test_a_file_that_lists_an_unknown_input_is_refused(
    string_path: Path, changed: Changed, refused: Refused
) -> None:
    def with_user(model: dict[str, Any]) -> dict[str, Any]:
        return model | {"inputs": [*model["inputs"], "user"]}

    content = changed(string_path.read_bytes(), names.MODEL_KEY, with_user)
    refused(content, "the inputs", "export it again")
    refused(content, "['user']", "upgrade attnrec", verify=False)


def test_a_file_that_conceals_user_ids_is_refused(
    string_path: Path, changed: Changed, refused: Refused
) -> None:
    content = string_path.with_name("tiny-users.onnx").read_bytes()
    for number, words in ((0, "ids and rows for 0 users"), ("none", "n_users 'none'")):
        lie = changed(
            content, names.MODEL_KEY, lambda model, number=number: model | {"n_users": number}
        )
        refused(lie, words, "export it again")


def altered(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Any], Any]:
    """Alter the second golden vector, as if another machine had computed it."""
    return lambda golden: [golden[0], golden[1] | change(golden[1]), *golden[2:]]


@pytest.mark.parametrize(
    "change",
    [
        lambda vector: {"scores": [*vector["scores"][:-1], None]},
        lambda vector: {"scores": vector["scores"][:-1]},
        lambda vector: {"items": vector["items"][::-1]},
        lambda vector: {"items": vector["items"][:-1]},
        lambda vector: {"scores": [vector["scores"][0] + 0.01, *vector["scores"][1:]]},
        lambda vector: {"n_known": vector["n_known"] + 1},
        lambda vector: {"k": vector["k"] - 1},
        lambda vector: {"history": []},
    ],
)
def test_a_selftest_that_comes_out_differently_names_the_vector(
    change: Callable[[dict[str, Any]], dict[str, Any]],
    path: Path,
    changed: Changed,
    tmp_path: Path,
) -> None:
    content = changed(path.read_bytes(), names.GOLDEN_KEY, altered(change))
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(SelfTestError, match=r"golden vector 2 of \d+ came out as"):
        Recommender.load(tmp_path / "model.onnx").selftest()


def test_a_selftest_allows_the_tolerance_of_the_contract(
    path: Path, changed: Changed, tmp_path: Path
) -> None:
    def nearly(vector: dict[str, Any]) -> dict[str, Any]:
        return {"scores": [score + 5e-6 for score in vector["scores"]]}

    content = changed(path.read_bytes(), names.GOLDEN_KEY, altered(nearly))
    (tmp_path / "model.onnx").write_bytes(content)
    sound = Recommender.load(path).selftest()
    assert Recommender.load(tmp_path / "model.onnx").selftest() == sound >= 4


@pytest.mark.parametrize("text", ["[{}]", '{"a": 1}', "[[]]", '[{"history": [null]}]', "5", "["])
def test_golden_vectors_that_cannot_be_run_fail_the_selftest(
    text: str, path: Path, rewritten: Rewritten, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(rewritten(path.read_bytes(), names.GOLDEN_KEY, text))
    with pytest.raises(SelfTestError, match=r"cannot be run .*export it again"):
        Recommender.load(tmp_path / "model.onnx").selftest()


def test_golden_vectors_far_larger_than_any_are_refused_unread(strings: Recommender) -> None:
    with pytest.raises(SelfTestError, match="above the limit"):
        check_golden("[]" + " " * 2**20, strings.info, strings._run)
