"""Which files are refused, and that each refusal names the fault and the remedy."""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from attnrec.runtime import ModelFileError, Recommender
from attnrec.runtime.model_file import format as names
from attnrec.runtime.session import make_session

Refused = Callable[..., None]
Unsealed = Callable[[bytes], bytes]

# ONNX's `Identity` on one number, as written by onnx.helper: a sound model, but not ours.
OTHER_MODEL = bytes.fromhex(
    "080812003a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a02080162"
    "0f0a0179120a0a08080112040a02080142040a00100d"
)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no\.onnx does not exist; make it with attnrec-exp"):
        Recommender.load(tmp_path / "no.onnx")


@pytest.mark.parametrize("verify", [True, False])
def test_a_directory_is_refused(verify: bool, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"cannot be read: .*; name a file from attnrec-exp"):
        Recommender.load(tmp_path, verify=verify)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"user_id,item_id,timestamp\n1,2,3\n",
        "Это вовсе не модель\n".encode() * 100,
        random.Random(0).randbytes(50_000),
        b"\xff" * 1000,
        b"\x72\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # an entry of 2^63 bytes
        b"\x72\x00" * 20_000,
    ],
    ids=["empty", "a zero", "csv", "text", "random", "ones", "endless entry", "many entries"],
)
def test_what_is_no_model_at_all_is_refused(
    content: bytes, verify: bool, refused: Refused
) -> None:
    refused(content, "export", verify=verify)


def test_an_onnx_model_of_another_kind_is_refused(refused: Refused) -> None:
    assert onnxruntime.InferenceSession(OTHER_MODEL).run(None, {"x": [1.5]})[0] == 1.5
    refused(OTHER_MODEL, "no seal", "not a file from attnrec-export")
    for verify in (True, False):
        sealed = names.seal(OTHER_MODEL)
        refused(sealed, "not an attnrec file", "make one with attnrec-export", verify=verify)


@pytest.mark.parametrize("kept", [1, 63, 64, 65, 1_000, 0.25, 0.5, 0.99, -65, -64, -1])
def test_a_file_cut_short_is_refused(kept: float, string_path: Path, refused: Refused) -> None:
    content = string_path.read_bytes()
    end = int(len(content) * kept) if isinstance(kept, float) else kept
    refused(content[:end], "cut short", "copy or export it again")


@pytest.mark.parametrize("more", [b"\0", b"\n", b"\x72\x00", b"0" * 64])
def test_a_file_with_something_appended_is_refused(
    more: bytes, string_path: Path, refused: Refused
) -> None:
    refused(string_path.read_bytes() + more, "copy or export it again")


def test_any_altered_byte_is_noticed(path: Path, refused: Refused) -> None:
    content = path.read_bytes()
    places = random.Random(1).sample(range(len(content)), 200)
    for place in [*places, *range(len(content) - names.SEAL_LENGTH, len(content))]:
        altered = bytearray(content)
        altered[place] ^= 1 << place % 8
        refused(bytes(altered), "copy or export it again")


def test_without_verification_the_seal_is_not_checked(
    string_path: Path, strings: Recommender, tmp_path: Path, refused: Refused
) -> None:
    altered = string_path.read_bytes()[:-1] + b"!"
    refused(altered, "altered since export")
    (tmp_path / "unverified.onnx").write_bytes(altered)
    recommender = Recommender.load(tmp_path / "unverified.onnx", verify=False)
    assert recommender.recommend(["NA"]) == strings.recommend(["NA"])


def test_a_graph_with_an_input_that_the_facts_do_not_list_is_refused(
    string_path: Path, unsealed: Unsealed, refused: Refused
) -> None:
    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    # Protobuf joins the parts of a message that stand apart: this is one more graph input,
    # an int64 vector of one dimension B.
    tensor = b"\x08\x07" + field(2, field(1, field(2, b"B")))
    one_more = field(7, field(11, field(1, b"basket") + field(2, field(1, tensor))))
    content = names.seal(unsealed(string_path.read_bytes()) + one_more)
    inputs = [value.name for value in onnxruntime.InferenceSession(content).get_inputs()]
    assert inputs == ["history", "exclude", "candidates", "k", "basket"]
    refused(content, "graph (twice)", "export it again")
    refused(content, "['basket']", "upgrade attnrec", verify=False)


@pytest.mark.parametrize("verify", [True, False])
def test_a_graph_that_onnxruntime_refuses_is_refused(
    verify: bool, string_path: Path, unsealed: Unsealed, refused: Refused
) -> None:
    facts = unsealed(string_path.read_bytes())
    assert b"TopK" in facts
    content = names.seal(facts.replace(b"TopK", b"TopQ"))
    refused(content, "onnxruntime cannot load it", "TopQ", "export it again", verify=verify)


def test_a_file_beyond_the_limit_of_protobuf_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with open(path, "wb") as file:
        file.truncate(2**31)  # takes no space on the disk
    with pytest.raises(ModelFileError, match="2147483648 bytes, above the limit of 2 GiB"):
        Recommender.load(path)


@pytest.mark.parametrize("n_threads", [0, -1, 1.5, True, None, "2"])
def test_the_number_of_threads_is_a_whole_number_from_1(n_threads: Any, string_path: Path) -> None:
    with pytest.raises(ValueError, match=f"whole number from 1, not {n_threads!r}"):
        Recommender.load(string_path, n_threads=n_threads)


def test_more_threads_give_the_same_answers(
    path: Path, recommender: Recommender, expected: dict[str, Any]
) -> None:
    two = Recommender.load(path, n_threads=2)
    catalogue = expected["catalogue"]
    for history in (catalogue[:0], catalogue[:3], catalogue):
        one_answer, other_answer = recommender.recommend(history), two.recommend(history)
        assert other_answer.item_ids == one_answer.item_ids
        assert other_answer.scores == pytest.approx(one_answer.scores, abs=1e-5)


@pytest.mark.parametrize("providers", [["NoSuchProvider"], [("NoSuchProvider", {"a": "b"})]])
def test_a_provider_that_is_not_here_is_refused(providers: list[Any], string_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no provider 'NoSuchProvider' .*CPUExecutionProvider"):
        Recommender.load(string_path, providers=providers)


def test_providers_are_a_list(string_path: Path, strings: Recommender) -> None:
    with pytest.raises(ValueError, match="must be a list of names, not 'CPUExecutionProvider'"):
        Recommender.load(string_path, providers="CPUExecutionProvider")
    some: list[Any] = [None, [], ["CPUExecutionProvider"], [("CPUExecutionProvider", {})]]
    for providers in some:
        recommender = Recommender.load(string_path, providers=providers)
        assert recommender.recommend(["NA"]) == strings.recommend(["NA"])


def test_nothing_keeps_the_bytes_of_a_loaded_file(string_path: Path) -> None:
    content = string_path.read_bytes()
    before = sys.getrefcount(content)
    session = make_session(content)
    assert session.get_inputs()
    assert sys.getrefcount(content) == before
