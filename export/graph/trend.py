"""What is popular now, in the graph: a number an item, which fades with the time of a request.

The steps are those of `Trend.at`.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from attnrec.export.graph.builder import GraphBuilder
from attnrec.train.models.base import RecommenderModel
from attnrec.train.models.fusion import Fusion
from attnrec.train.models.trend import Trend


@dataclass(frozen=True)
class AddedTrend:
    """What is added to scores."""

    share: ir.Value  # (B, 1): what is left of it at the time of each request
    weighted: ir.Value  # (N + 1,)

    def of_all(self, g: GraphBuilder, share: ir.Value, scores: ir.Value) -> ir.Value:
        """Scores (B, N + 1) with it; share: the rows of them."""
        added: ir.Value = g.Add(scores, g.Mul(share, self.weighted))
        return added

    def of_rows(self, g: GraphBuilder, rows: ir.Value, scores: ir.Value) -> ir.Value:
        """Scores (B, C) of rows (B, C) with it."""
        added: ir.Value = g.Add(scores, g.Mul(self.share, g.Gather(self.weighted, rows, axis=0)))
        return added


def trend_of(model: RecommenderModel) -> Trend | None:
    """That of a model, if it has any."""
    return model.trend if isinstance(model, Fusion) and model.config.trend else None


def added_trend(g: GraphBuilder, trend: Trend, request_time: ir.Value) -> AddedTrend:
    """The trend at the times of requests (B,)."""
    until = int(trend.until)
    age = g.Sub(g.Max(request_time, until), until)
    share = g.Exp(g.Mul(g.Cast(age, to=ir.DataType.FLOAT), trend.decay))
    weighted = (trend.config.trend_weight or 0.0) * trend.lift.numpy()
    return AddedTrend(g.Unsqueeze(share, [1]), g.initializer("trend", weighted.astype(np.float32)))
