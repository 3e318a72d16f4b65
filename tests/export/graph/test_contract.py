"""The graph beside an oracle of its own: one row at a time, float64, no padding, no ONNX."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from attnrec.export import ParityReport
from attnrec.runtime.session import make_session
from attnrec.train import Run
from attnrec.train.models.base import ScoreModel

NAMES = ["sasrec-string", "sasrec-int64", "markov-chain-int64", "popularity-string"]
Exported = dict[str, tuple[Path, ParityReport]]


class Oracle:
    """What the contract says, in the plainest words that Python has."""

    def __init__(self, run: Run) -> None:
        self.model = copy.deepcopy(run.model).double()
        self.ids = run.split.catalogue.item_ids.tolist()
        self.titles = run.split.catalogue.titles
        self.max_len = run.model.config.max_len
        self.padding: Any = -1 if run.split.catalogue.item_ids.dtype == np.int64 else ""

    @torch.no_grad()
    def scores(self, history: list[Any]) -> dict[Any, float]:
        """Score of every item after a raw history."""
        rows = [self.ids.index(i) + 1 for i in history if i in self.ids][-self.max_len :] or [0]
        seen = torch.tensor([rows])
        if isinstance(self.model, ScoreModel):
            scores = self.model.scores(seen)[0]
        else:
            table = self.model.item_table()
            scores = self.model.states(table[seen], seen > 0)[0, -1] @ table.T
        return dict(zip(self.ids, scores[1:].tolist(), strict=True))

    def check(
        self, call: dict[str, NDArray[Any]], row: int, outputs: dict[str, NDArray[Any]]
    ) -> None:
        """Assert every clause for one row of a call."""
        history, exclude, candidates = (
            call[name][row].tolist() for name in ("history", "exclude", "candidates")
        )
        items, scores = outputs["items"][row].tolist(), outputs["scores"][row].tolist()
        truth = self.scores(history)
        tolerance = 1e-5 * max(1.0, *map(abs, truth.values()))
        allowed = set(self.ids if call["candidates"].shape[1] == 0 else candidates)
        allowed = (allowed & set(self.ids)) - set(exclude)

        assert outputs["n_known"][row] == sum(item in truth for item in history)
        assert len(items) == len(scores) == min(max(int(call["k"][0]), 0), len(self.ids))
        n = min(len(items), len(allowed))
        assert items[n:] == [self.padding] * (len(items) - n)
        assert scores[n:] == [-np.inf] * (len(items) - n)
        best, best_scores = items[:n], scores[:n]
        assert set(best) <= allowed and len(set(best)) == n
        assert best_scores == pytest.approx([truth[item] for item in best], rel=0, abs=tolerance)
        assert best_scores == sorted(best_scores, reverse=True)
        rows = [self.ids.index(item) for item in best]
        places = [(-score, row) for score, row in zip(best_scores, rows, strict=True)]
        assert places == sorted(places), "equal scores: the lower row first"
        if best and len(best) < len(allowed):
            left_out = max(truth[item] for item in allowed - set(best))
            assert left_out <= best_scores[-1] + 2 * tolerance
        if self.titles is not None:
            title_of = dict(zip(self.ids, self.titles, strict=True))
            assert outputs["titles"][row].tolist() == [title_of.get(item, "") for item in items]


@pytest.fixture(scope="module")
def sessions(exported: Exported) -> dict[str, onnxruntime.InferenceSession]:
    return {name: make_session(path.read_bytes()) for name, (path, _) in exported.items()}


@pytest.fixture(scope="module")
def oracles(runs: dict[str, Run]) -> dict[str, Oracle]:
    return {name: Oracle(run) for name, run in runs.items()}


def run_session(
    session: onnxruntime.InferenceSession, call: dict[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, call), strict=True))


def random_ids(
    oracle: Oracle, rng: np.random.Generator, shape: tuple[int, int], unknown_share: float
) -> NDArray[Any]:
    """Ids of the catalogue, repeats included; a share `unknown_share` is padding or unknown."""
    is_int = isinstance(oracle.padding, int)
    unknown = [-3, 10**15, 2**62] if is_int else ["nothing", "É", "sku 9 "]
    pool = np.array([*oracle.ids, *unknown, *[oracle.padding] * 3], dtype=object)
    place = rng.integers(0, len(oracle.ids), shape)
    is_unknown = rng.random(shape) < unknown_share
    place[is_unknown] = rng.integers(len(oracle.ids), len(pool), is_unknown.sum())
    return pool[place].astype(np.int64 if is_int else object)


calls = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "rows": st.integers(1, 20),
        "history": st.one_of(st.integers(0, 12), st.integers(0, 120)),
        "exclude": st.integers(0, 40),
        "candidates": st.one_of(st.just(0), st.integers(0, 60)),
        "k": st.one_of(st.integers(-3, 45), st.just(10**9)),
        "unknown_share": st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    }
)


@pytest.mark.parametrize("name", NAMES)
@given(call=calls)
@settings(max_examples=40)
def test_any_call_is_answered_as_the_contract_says(
    name: str,
    call: dict[str, Any],
    sessions: dict[str, onnxruntime.InferenceSession],
    oracles: dict[str, Oracle],
) -> None:
    oracle, rng = oracles[name], np.random.default_rng(call["seed"])
    feed = {
        part: random_ids(oracle, rng, (call["rows"], call[part]), call["unknown_share"])
        for part in ("history", "exclude", "candidates")
    }
    feed["k"] = np.array([call["k"]], dtype=np.int64)
    outputs = run_session(sessions[name], feed)
    for row in range(call["rows"]):
        oracle.check(feed, row, outputs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 2, 700])
def test_a_batch_of_any_size_gives_each_row_its_own_answer(
    name: str,
    rows: int,
    sessions: dict[str, onnxruntime.InferenceSession],
    oracles: dict[str, Oracle],
) -> None:
    oracle, session = oracles[name], sessions[name]
    history = random_ids(oracle, np.random.default_rng(rows), (rows, 25), 0.3)
    nothing = history[:, :0]
    feed = {"history": history, "exclude": history, "candidates": nothing, "k": np.array([5])}
    together = run_session(session, feed)
    for row in range(0, rows, max(1, rows // 30)):
        oracle.check(feed, row, together)
        one = slice(row, row + 1)
        alone = run_session(
            session,
            {**feed, "history": history[one], "exclude": history[one], "candidates": nothing[one]},
        )
        np.testing.assert_allclose(alone["scores"][0], together["scores"][row], atol=1e-4)
        assert alone["n_known"][0] == together["n_known"][row]


@pytest.mark.parametrize("name", NAMES)
def test_a_score_does_not_depend_on_the_candidates(
    name: str, sessions: dict[str, onnxruntime.InferenceSession], oracles: dict[str, Oracle]
) -> None:
    oracle = oracles[name]
    dtype = np.int64 if isinstance(oracle.padding, int) else object
    history = np.array([oracle.ids[3:9]], dtype=dtype)
    chosen = np.array([oracle.ids[::3]], dtype=dtype)
    nothing = history[:, :0]
    feed = {"history": history, "exclude": nothing, "candidates": nothing, "k": np.array([99])}
    every = run_session(sessions[name], feed)
    some = run_session(sessions[name], {**feed, "candidates": chosen})
    score_of = dict(zip(every["items"][0].tolist(), every["scores"][0].tolist(), strict=True))
    n = chosen.shape[1]
    expected = [score_of[item] for item in some["items"][0, :n].tolist()]
    assert some["scores"][0, :n].tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_gate_passes_every_sound_run(
    name: str, exported: Exported, runs: dict[str, Run]
) -> None:
    report = exported[name][1]
    n_users = len(runs[name].split.held_out("test").histories)
    assert (report.n_faults, report.faults) == (0, [])
    assert report.n_test_users == report.n_identical == n_users > 40
    assert report.n_synthetic_rows > 150
    assert report.largest_share < 0.2
