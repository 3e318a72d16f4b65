"""The learning curve as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def draw_learning_curve(epochs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Training loss and, where there is one, validation NDCG@10 over the epochs, as PNG."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    loss_axis = figure.subplots()
    number = [epoch["epoch"] for epoch in epochs]
    loss_axis.plot(number, [epoch["loss"] for epoch in epochs], color="tab:gray", label="loss")
    loss_axis.set_xlabel("epoch")
    loss_axis.set_ylabel("training loss")
    loss_axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if all(epoch["valid"] for epoch in epochs):
        ndcg = [epoch["valid"]["ndcg@10"] for epoch in epochs]
        best = max(range(len(ndcg)), key=ndcg.__getitem__)
        quality_axis = loss_axis.twinx()
        quality_axis.plot(number, ndcg, color="tab:blue", marker="o", label="validation NDCG@10")
        quality_axis.set_ylabel("validation NDCG@10", color="tab:blue")
        quality_axis.set_ylim(bottom=0)
        loss_axis.set_title(f"best: NDCG@10 {ndcg[best]:.4f} after epoch {number[best]}")
    figure.savefig(path, dpi=120)
