"""Any log goes the whole way: read, train, export, and answer any call as the contract says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contract_model import Call, ContractModel, Ids, Row
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_logs import AWKWARD, EXTREME, Log, Prepared, logs

from attnrec.export import export
from attnrec.runtime import DataError, Recommendations, Recommender
from attnrec.runtime.session import make_session
from attnrec.train import DataRecipe, Run, TrainConfig, train, train_final
from attnrec.train.evaluation.comparison import evaluate
from attnrec.train.evaluation.torch_recommender import TorchRecommender

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("operators_read_once")

# An example takes seconds: it trains, exports and passes the gate. To make a failing one smaller
# would take minutes; what is drawn is printed.
repeatable = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
soak = settings(repeatable, derandomize=False, max_examples=200)

CONFIGS = {
    "sasrec": st.fixed_dictionaries(
        {
            # Not less: a LayerNorm over two numbers magnifies the rounding of torch itself in
            # float32 beyond the tolerance, and the gate refuses the file.
            "hidden_dim": st.just(8),
            "n_blocks": st.just(1),
            "max_len": st.integers(1, 12),
            "logits": st.sampled_from(["cosine", "dot"]),
        }
    ),
    "personal-frequency": st.fixed_dictionaries({"max_len": st.integers(1, 12)}),
    "markov-chain": st.fixed_dictionaries(
        {
            "max_len": st.integers(1, 12),
            "n_neighbours": st.sampled_from([1, 3, 200]),
            "history_decay": st.sampled_from([None, 0, 0.5, 1]),
            "distance_decay": st.sampled_from([0.7, 0, 1]),
        }
    ),
    "item-knn": st.fixed_dictionaries(
        {
            "similarity": st.sampled_from(["cosine", "bm25"]),
            "n_neighbours": st.sampled_from([1, 3, 200]),
            "history_decay": st.sampled_from([None, 1]),
        }
    ),
    "ease": st.fixed_dictionaries(
        {
            "n_neighbours": st.sampled_from([1, 3, 200]),
            "regularization": st.sampled_from([None, 1, 100]),
        }
    ),
    "popularity": st.just({}),
}


class Asker:
    """One file, its torch model and the contract; each gets the same calls."""

    def __init__(self, run: Run, path: Path, prepared: Prepared, seed: int) -> None:
        self.recommender = Recommender.load(path)
        self.session = make_session(path.read_bytes())
        self.reference = TorchRecommender(run.model, run.split.catalogue)
        self.contract = ContractModel(prepared.catalogue, prepared.titles)
        self.max_len = run.model.config.max_len
        self.repeats = run.recipe.repeats
        self.rng = np.random.default_rng(seed)
        is_text = self.contract.padding == ""
        unknown: Ids = ["no such item", *AWKWARD[:-2]] if is_text else [*EXTREME, -3, 7]
        unknown = [item_id for item_id in unknown if item_id not in prepared.catalogue]
        self._strange = [*unknown, *[self.contract.padding] * len(unknown)]

    def ids(self, longest: int) -> Ids:
        """Known and unknown ids, padding, repeats; often one kind alone."""
        n, share = int(self.rng.integers(0, longest + 1)), self.rng.choice([0, 0.2, 0.6, 1])
        known, strange = self.contract.ids, self._strange
        return [
            strange[self.rng.integers(len(strange))]
            if self.rng.random() < share
            else known[self.rng.integers(len(known))]
            for _ in range(n)
        ]

    def calls(self, n_rows: int, ks: Ids) -> list[Call]:
        """Rows of one batch: candidates in none, in all or in some of them, some empty."""
        k, share = int(self.rng.choice(ks)), self.rng.choice([0, 0.5, 1])
        longest = int(self.rng.choice([0, 3, self.max_len, 3 * self.max_len, 80]))
        return [
            Call(
                self.ids(longest),
                k,
                self.ids(20),
                self.ids(int(self.rng.choice([0, 3, 60]))) if self.rng.random() < share else None,
            )
            for _ in range(n_rows)
        ]

    def truth(self, calls: list[Call]) -> NDArray[np.float32]:
        """Scores of the items (B, N) by the torch model, which gets only the known ids."""
        known = [[i for i in call.history if i in self.contract.ids] for call in calls]
        return self.reference.scores([ids[-self.max_len :] for ids in known])[:, 1:]

    def ask_graph(self) -> None:
        """The graph itself: any k, and rows padded anywhere."""
        n = len(self.contract.ids)
        calls = self.calls(
            int(self.rng.integers(1, 13)), [-3, 0, 1, 2, 10, n - 1, n, n + 1, 10**9]
        )
        # For the graph no candidates at all is no restriction, in every row of the call.
        restricted = any(call.candidates for call in calls)
        feed: dict[str, NDArray[Any]] = {
            "history": self._padded([call.history for call in calls]),
            "exclude": self._padded([call.exclude for call in calls]),
            "candidates": self._padded([call.candidates or [] for call in calls]),
            "k": np.array([calls[0].k]),
        }
        names = [value.name for value in self.session.get_outputs()]
        outputs = self.session.run(names, feed)
        for i, (call, scores) in enumerate(zip(calls, self.truth(calls), strict=True)):
            allowed = (call.candidates or []) if restricted else None
            titles = outputs[3][i].tolist() if names[3:4] == ["titles"] else None
            row = Row(outputs[0][i].tolist(), outputs[1][i].tolist(), int(outputs[2][i]), titles)
            self.contract.assert_answers(
                row, scores, Call(call.history, call.k, call.exclude, allowed)
            )

    def ask_recommender(self) -> None:
        """A batch and each of its rows alone, then the torch model's own answers."""
        n = len(self.contract.ids)
        calls = self.calls(int(self.rng.integers(1, 9)), [1, 2, 10, n, n + 1, 10**9])
        k = calls[0].k
        exclude_seen = [None, True, False][int(self.rng.integers(3))]
        histories = [call.history for call in calls]
        answers = self.recommender.recommend_batch(
            histories,
            k,
            exclude=[call.exclude for call in calls],
            candidates=[call.candidates for call in calls],
            exclude_seen=exclude_seen,
        )
        excluded = not self.repeats if exclude_seen is None else exclude_seen
        scores = self.truth(calls)
        for call, answer, truth in zip(calls, answers, scores, strict=True):
            exclude, candidates = call.exclude, call.candidates
            alone = self.recommender.recommend(
                call.history, k, exclude=exclude, candidates=candidates, exclude_seen=exclude_seen
            )
            full = Call(call.history, k, exclude + call.history * excluded, candidates)
            for one in (answer, alone):
                self.contract.assert_answers(self._row(one, full), truth, full)
        references = self.reference.recommend_batch(histories, k, exclude_seen=excluded)
        # Batches compute other roundings, so the scores of this one batch are computed again.
        again = self.reference.scores(histories)[:, 1:]
        assert np.allclose(again, scores, rtol=0, atol=1e-5 * max(1, np.abs(scores).max()))
        for history, one, truth in zip(histories, references, scores, strict=True):
            full = Call(history, k, history * excluded)
            self.contract.assert_answers(self._row(one, full), truth, full)

    def ask_scores(self) -> None:
        """`score` in the order of the ids, NaN for unknown ids."""
        (call,) = self.calls(1, [1])
        item_ids = self.ids(30)
        scores = self.recommender.score(call.history, item_ids)
        (truth,) = self.truth([call])
        tolerance = 1e-5 * max(1.0, float(np.abs(truth).max()))
        for item_id, score in zip(item_ids, scores, strict=True):
            places = self.contract.places([item_id])
            assert abs(score - truth[places[0]]) <= tolerance if places else np.isnan(score)

    def _padded(self, rows: list[Ids]) -> NDArray[Any]:
        """Rows as one array, the padding at random places."""
        dtype = object if self.contract.padding == "" else np.int64
        width = max(map(len, rows)) + int(self.rng.integers(0, 2)) * (max(map(len, rows)) > 0)
        padded = np.full((len(rows), width), self.contract.padding, dtype=dtype)
        for target, row in zip(padded, rows, strict=True):
            target[np.sort(self.rng.permutation(width)[: len(row)])] = row
        return padded

    def _row(self, answer: Recommendations, call: Call) -> Row:
        return self.contract.row(
            answer.item_ids, answer.scores, answer.n_known, answer.titles, call
        )


def strict_json(text: str) -> Any:
    """JSON as other languages read it: without NaN and infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def go_the_whole_path(
    data: st.DataObject, log: Log, model: str, repeats: bool, seed: int, directory: Path
) -> None:
    """Train on `log`, export, and compare the answers of the file with the contract."""
    source, items = log.sources(directory)
    settings = data.draw(CONFIGS[model])
    config = TrainConfig(model, settings, epochs=1, batch_events=200, seed=seed, threads=1)
    recipe = DataRecipe(repeats=repeats, time_unit=log.time_unit)
    prepared = Prepared(log, repeats=repeats)
    train(source, config, items=items, recipe=recipe, out=directory / "run")
    run, path = Run.load(directory / "run"), directory / "run" / "model.onnx"
    report = export(run, path)
    assert report.n_test_users == sum(len(h) >= 3 for h in prepared.histories.values())
    assert evaluate(path, source).to_json() == Recommender.load(path).info.metrics["test"]
    ask_much(run, path, prepared, seed)
    if data.draw(st.sampled_from([False, False, True])):
        train_final(run, out=directory / "final")
        run, path = Run.load(directory / "final"), directory / "final.onnx"
        assert export(run, path).n_test_users == len(prepared.histories)
        ask_much(run, path, Prepared(log, repeats=repeats, final=True), seed)


def ask_much(run: Run, path: Path, prepared: Prepared, seed: int) -> None:
    """Compare the file at `path` with `run` and the contract on random calls."""
    assert run.split.catalogue.item_ids.tolist() == prepared.catalogue
    asker = Asker(run, path, prepared, seed)
    assert asker.recommender.selftest() >= 4
    for entry, text in asker.session.get_modelmeta().custom_metadata_map.items():
        assert entry == "attnrec.sha256" or strict_json(text) is not None
    for _ in range(10):
        asker.ask_graph()
        asker.ask_recommender()
        asker.ask_scores()


whole_path = given(
    data=st.data(), log=logs(), repeats=st.booleans(), seed=st.integers(0, 2**32 - 1)
)


@settings(repeatable, max_examples=6)
@whole_path
def test_any_log_goes_the_whole_path_with_sasrec(
    data: st.DataObject,
    log: Log,
    repeats: bool,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("sasrec")
    go_the_whole_path(data, log, "sasrec", repeats, seed, directory)


@pytest.mark.parametrize("model", ["markov-chain", "personal-frequency", "popularity"])
@settings(repeatable, max_examples=3)
@whole_path
def test_any_log_goes_the_whole_path_with_a_score_model(
    model: str,
    data: st.DataObject,
    log: Log,
    repeats: bool,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp(model)
    go_the_whole_path(data, log, model, repeats, seed, directory)


FLAWS = {
    "one item": "a recommender needs two items",
    "short histories": "no user has 3 events",
    "padding": "the id -1 is the padding value",
}


@pytest.mark.parametrize("flaw", FLAWS)
@settings(repeatable, max_examples=10)
@given(data=st.data(), repeats=st.booleans())
def test_a_log_that_cannot_be_used_is_refused_for_a_reason_that_it_has(
    flaw: str, data: st.DataObject, repeats: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    log, directory = data.draw(logs(flaw)), tmp_path_factory.mktemp("flaw")
    source, items = log.sources(directory)
    recipe = DataRecipe(repeats=repeats, time_unit=log.time_unit)
    with pytest.raises(DataError, match=FLAWS[flaw]):
        train(source, items=items, recipe=recipe, out=directory / "run")
    assert not (directory / "run").exists()


@pytest.mark.soak
@pytest.mark.parametrize("model", CONFIGS)
@soak
@whole_path
def test_many_logs_go_the_whole_path(
    model: str,
    data: st.DataObject,
    log: Log,
    repeats: bool,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp(model)
    go_the_whole_path(data, log, model, repeats, seed, directory)
