"""Reading protobuf: many texts of one field, which are counted and not kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnrec.runtime import ModelFileError
from attnrec.runtime.model_file.protobuf import BYTES, N_BYTES, Message, Reader

TEXTS = Message("texts", texts=(6, N_BYTES), after=(7, BYTES))
TAG, AFTER = 6 << 3 | 2, bytes([7 << 3 | 2, 1, 0xFF])
# Short texts are read many at once, others one by one; a text may look like tags and lengths.
of_one_length = st.integers(0, 200).flatmap(
    lambda n: st.lists(st.binary(min_size=n, max_size=n), max_size=100)
)
like_tags = st.lists(st.text("2\x01\x05a", max_size=40).map(str.encode), max_size=100)
texts = st.lists(
    of_one_length | like_tags | st.lists(st.binary(max_size=200), max_size=100), max_size=4
).map(lambda parts: [text for part in parts for text in part])


def written(content: list[bytes]) -> bytes:
    rows = []
    for text in content:
        n = len(text)
        size = bytes([n]) if n < 0x80 else bytes([n & 0x7F | 0x80, n >> 7])
        rows.append(bytes([TAG]) + size + text)
    return b"".join(rows)


@given(texts)
def test_texts_of_any_lengths_are_counted(content: list[bytes]) -> None:
    found = Reader().read(memoryview(written(content) + AFTER), TEXTS)
    assert found["texts"] == len(content)
    assert bytes(found["after"]) == b"\xff"


@pytest.mark.parametrize("length", [0, 5, 127, 128, 200])
@pytest.mark.parametrize("n", [1, 15, 16, 17, 18, 70_000])
def test_many_texts_of_one_length_are_counted_up_to_the_first_other(n: int, length: int) -> None:
    content = [b"\x32" * length] * n + [b"other than these"] * 3
    assert Reader().read(memoryview(written(content)), TEXTS)["texts"] == n + 3


@pytest.mark.parametrize("n", [1, 16, 17, 40])
@pytest.mark.parametrize("missing", [1, 4, 9])
def test_a_text_beyond_the_end_is_refused(n: int, missing: int) -> None:
    whole = written([b"12345678"] * n)
    with pytest.raises(ModelFileError, match="damaged"):
        Reader().read(memoryview(whole[:-missing]), TEXTS)
