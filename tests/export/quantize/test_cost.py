"""The quantization cost is a difference user by user, not of two means."""

from pathlib import Path

from attnrec.export import ParityReport
from attnrec.export.quantize.cost import quantization_cost
from attnrec.runtime import Recommender
from attnrec.train import Run


def test_a_file_beside_itself_costs_nothing_and_that_is_certain(
    runs: dict[str, Run], exported: dict[str, tuple[Path, ParityReport]]
) -> None:
    for name in ("sasrec-string", "markov-chain-int64"):
        recommender = Recommender.load(exported[name][0])
        cost = quantization_cost(recommender, recommender, runs[name], size=1.0)
        assert cost.ndcg_interval == (0.0, 0.0)
        assert (cost.ndcg_change, cost.overlap_10, cost.same_first) == (0.0, 1.0, 1.0)
