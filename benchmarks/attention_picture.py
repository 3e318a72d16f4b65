"""The picture of docs/attention.md: what dividing the scores by sqrt(d) is for."""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from attnrec.train.layers.attention import attention_weights, dot_product_scores

DIMS = (4, 16, 64, 256, 1024)
N_ITEMS, N_DRAWS = 10, 2000
KINDS = {"plain": ("tab:orange", False), "divided by sqrt(d)": ("tab:blue", True)}


def weights(dim: int, *, scaled: bool) -> torch.Tensor:
    """Of random items under random queries: (N_DRAWS, N_ITEMS), largest first."""
    torch.manual_seed(dim)
    query, key = torch.randn(N_DRAWS, 1, dim), torch.randn(N_DRAWS, N_ITEMS, dim)
    found = attention_weights(dot_product_scores(query, key, scaled=scaled))
    return found.squeeze(1).sort(dim=-1, descending=True).values


def draw(path: Path) -> None:
    """Left the weights in many dimensions, right the gradient by their number."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for offset, (name, (colour, scaled)) in zip((-0.2, 0.2), KINDS.items(), strict=True):
        places = torch.arange(1, N_ITEMS + 1) + offset
        left.bar(places, weights(256, scaled=scaled).mean(dim=0), 0.4, color=colour, label=name)
        gradients = []
        for dim in DIMS:
            w = weights(dim, scaled=scaled)
            gradients.append((w * (1 - w)).amax(dim=-1).mean().item())
        right.plot(DIMS, gradients, "o-", color=colour, label=name)
    left.set(title="Mean weights of ten items, d = 256", xlabel="item, by weight", ylabel="weight")
    right.set(title="Gradient of softmax", xlabel="dimensions d", ylim=0, xscale="log")
    right.set_xticks(DIMS, [str(dim) for dim in DIMS])
    right.minorticks_off()
    left.legend(frameon=False)
    figure.savefig(path, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/attention.png"))
    draw(parser.parse_args().out)
