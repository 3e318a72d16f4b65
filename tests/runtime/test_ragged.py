"""Lists of different lengths in one array: the same ids, whichever rows are asked for."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnrec.runtime.arguments import id_row
from attnrec.runtime.batch import Ragged

INT64 = st.integers(-(2**63), 2**63 - 1)
LISTS = {
    "int64": st.lists(st.lists(INT64, max_size=5), min_size=1, max_size=6),
    "string": st.lists(st.lists(st.text(max_size=3), max_size=5), min_size=1, max_size=6),
}


@pytest.mark.parametrize(("id_type", "padding"), [("int64", -1), ("string", "")])
@given(data=st.data())
def test_rows_come_back_as_they_went_in_and_padding_after_them(
    id_type: str, padding: int | str, data: st.DataObject
) -> None:
    lists = data.draw(LISTS[id_type])
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), min_size=1, max_size=8))
    stacked = Ragged("lists", lists, id_type).stacked(rows)
    longest = max(len(lists[row]) for row in rows)
    expected = [lists[row] + [padding] * (longest - len(lists[row])) for row in rows]
    assert stacked.shape == (len(rows), longest)
    assert stacked.tolist() == expected
    assert stacked.dtype == (np.int64 if id_type == "int64" else object)


@pytest.mark.parametrize(
    "wrong", [[1, None], [1, True], [1, 2.0], [2**63], ["1"], None, 5, "12", {1, 2}, [[1]]]
)
def test_a_wrong_list_is_refused_as_by_itself(wrong: Any) -> None:
    with pytest.raises(ValueError) as alone:
        id_row("lists[1]", wrong, "int64")
    with pytest.raises(ValueError) as among:
        Ragged("lists", [[1], wrong, [2]], "int64")
    assert str(among.value) == str(alone.value)
