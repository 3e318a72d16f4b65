"""How much of a history EASE should see in `fusion`: validation NDCG@10 by the length it is fed.

    python benchmarks/accuracy/ease_history.py [LOG] --epochs 6 --out DIR

Trains `fusion` once on LOG (None: the embedded log) and keeps the run in DIR. Attention and the
transitions stay as they are; EASE is fed the newest 100, 200, ... events of each history, or all.
For each length both weights are chosen anew, on one half of the users for the other half. Prints
a line of Markdown for each length. The test events are not looked at.
"""

import argparse
import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from attnrec.runtime.side_inputs import SideInputs
from attnrec.train import Run, TrainConfig, train
from attnrec.train.evaluation.metrics import bootstrap_intervals
from attnrec.train.evaluation.torch_recommender import TorchRecommender
from attnrec.train.fitting.config import parse_settings
from attnrec.train.models.ease import Ease
from attnrec.train.models.fusion import Fusion
from attnrec.train.models.markov_chain import MarkovChain

_LENGTHS = (100, 200, 400, None)
_WEIGHTS = (0.1, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0)
_EASE_WEIGHTS = (0.0, 0.3, 0.5, 0.7, 1.0, 1.4)


def log_share(counted: NDArray[np.float32], floor: float) -> NDArray[np.float32]:
    """As `Fusion` adds it: (n_users, N + 1)."""
    positive = np.maximum(counted, 0)
    return np.log(positive / np.maximum(positive.sum(1, keepdims=True), 1e-6) + floor)


def ease_scores(ease: Ease, histories: list[NDArray[np.int64]]) -> NDArray[np.float32]:
    """Scores of every item for histories of any length, (n_users, N + 1)."""
    n_rows, n_kept = ease.neighbour.shape
    source = np.repeat(np.arange(n_rows), n_kept)
    entries = (ease.weight.numpy().ravel(), (source, ease.neighbour.numpy().ravel()))
    b = sparse.csr_matrix(entries, shape=(n_rows, n_rows))
    lengths = [len(rows) for rows in histories]
    at = (np.repeat(np.arange(len(histories)), lengths), np.concatenate(histories))
    x = sparse.csr_matrix((np.ones(sum(lengths)), at), shape=(len(histories), n_rows))
    return np.asarray((x @ b).todense(), dtype=np.float32) + ease.prior.numpy()


def parts(run: Run) -> tuple[NDArray[Any], NDArray[Any], dict[int | None, NDArray[Any]], Any]:
    """Scores of attention, shares of the transitions, shares of EASE by length; the questions."""
    model, split = run.model, run.split
    assert isinstance(model, Fusion)
    questions = split.held_out("valid")
    floor, said = model.config.count_floor, SideInputs(None, None, *_times(run, questions))
    alone = copy.deepcopy(model)
    without = replace(model.config, count_weight=0.0, ease_weight=0.0)
    alone.config = alone.counts.config = without
    reference = TorchRecommender(alone, split.catalogue)
    n_users = len(questions.histories)
    attended = np.concatenate([
        reference.scores(questions.histories[a : a + 64], said.of(range(a, min(a + 64, n_users))))
        for a in range(0, n_users, 64)
    ])  # fmt: skip
    rows = [reference.rows(history) for history in questions.histories]
    chain = MarkovChain(model.config.chain())
    chain.fit(split)
    with torch.inference_mode():
        newest = torch.zeros(n_users, chain.config.max_len, dtype=torch.int64)
        for target, own in zip(newest, rows, strict=True):
            target[len(target) - min(len(own), len(target)) :] = torch.from_numpy(own[-20:])
        counted = np.concatenate([chain.scores(part).numpy() for part in newest.split(64)])
    ease = Ease(model.config.solved())
    ease.fit(split)
    by_length = {
        most: log_share(ease_scores(ease, [own[-(most or len(own)) :] for own in rows]), floor)
        for most in _lengths(model.config.max_len)
    }
    return attended, log_share(counted, floor), by_length, (rows, questions, reference)


def _lengths(max_len: int) -> list[int | None]:
    return [max_len, *(most for most in _LENGTHS if most is None or most > max_len)]


def _times(run: Run, questions: Any) -> tuple[Any, Any]:
    if "timestamps" not in run.model.inputs:
        return None, None
    return questions.timestamps, questions.request_times


def measure(run: Run) -> None:
    """Print a line of Markdown for each length."""
    attended, counted, by_length, (rows, questions, reference) = parts(run)
    n_users, max_len = len(rows), run.model.config.max_len
    target = np.array([reference.row(item) for item in questions.targets.tolist()])
    everybody = np.arange(n_users)
    for row, own in enumerate(rows):
        attended[row, own] = -np.inf  # the log is without repeats
    attended[:, 0] = -np.inf

    def gains(scores: NDArray[np.float32]) -> NDArray[np.float64]:
        wanted = scores[everybody, np.maximum(target, 0)][:, None]
        rank = (scores >= wanted).sum(1)
        return np.where((target > 0) & (rank <= 10), 1 / np.log2(rank + 1), 0.0)

    longer = np.mean([len(own) > max_len for own in rows])
    print(f"{n_users:,} users, {longer:.1%} with more than {max_len} events")
    half = np.random.default_rng(0).permutation(n_users) % 2 == 0
    cut = np.zeros(n_users)
    for most, liked in by_length.items():
        by_weights = {
            (w, v): gains(attended + np.float32(w) * counted + np.float32(v) * liked)
            for w in _WEIGHTS
            for v in _EASE_WEIGHTS
        }
        crossed = np.empty(n_users)
        for own in (half, ~half):
            best = max(by_weights, key=lambda weights: by_weights[weights][~own].mean())
            crossed[own] = by_weights[best][own]
        cut = crossed if most == max_len else cut
        best = max(by_weights, key=lambda weights: by_weights[weights].mean())
        low, high = bootstrap_intervals({"d": crossed - cut})["d"]
        apart = f"{(crossed - cut).mean():+.4f} ({low:+.4f} to {high:+.4f})"
        chosen = f"{by_weights[best].mean():.4f} | {best[0]}, {best[1]}"
        print(f"| {most or 'whole'} | {chosen} | {crossed.mean():.4f} | {apart} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", nargs="?", help="a log; without one the embedded log")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--set", nargs="*", default=["ease=true"], help="settings, NAME=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if not arguments.out.exists():
        settings = parse_settings("fusion", arguments.set)
        config = TrainConfig(settings=settings, epochs=arguments.epochs, threads=1)
        train(arguments.log, config, out=arguments.out)
    measure(Run.load(arguments.out))


if __name__ == "__main__":
    main()
