"""Are 2 bits, or one, enough for item vectors? An experiment; no file has such a profile.

    python benchmarks/low_bits.py RUN --epochs 3 --out low_bits.jsonl

RUN is a directory of `attnrec-train --model sasrec`. Its item vectors are rounded in blocks of 32
that share a scale, where they are looked up and where they are scored; they learn through the
rounding (straight-through, Bengio et al. 2013, arXiv 1308.3432), with all other weights, by the
loss of RUN and the distance to its scores. Four bits, trained so, stand beside the way of
`attnrec-train --quantize-aware`, which leaves rounded vectors as they are. Figures are of torch,
on every test user, against RUN: overlap@10, and NDCG@10 with its paired 95 % interval.
"""

import argparse
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from attnrec.export.quantize.cost import price
from attnrec.train import Run
from attnrec.train.evaluation.torch_recommender import Reference
from attnrec.train.evaluation.validation import Validation
from attnrec.train.fitting.loop import fit_by_gradient
from attnrec.train.models.sasrec import SASRec
from attnrec.train.tuning import rounding
from attnrec.train.tuning.rounded_student import RoundedStudent, set_table

_LEARNING_RATE = 1e-3
_SHARES = (1.0, 0.85, 0.7, 0.55, 0.4)


def four_bits(blocks: Tensor) -> Tensor:
    """Codes -8 to 7."""
    scales = rounding.scales_of(blocks, *rounding.CODES)
    return (blocks / scales).round().clamp(*rounding.CODES) * scales


def two_bits(blocks: Tensor) -> Tensor:
    """Four levels: -1.5, -0.5, 0.5 and 1.5 times the scale that loses least."""
    whole = blocks.abs().amax(dim=2, keepdim=True) / 1.5
    scales = torch.stack([whole * share for share in _SHARES])
    found = ((blocks / scales).floor() + 0.5).clamp(-1.5, 1.5) * scales
    best = (blocks - found).square().sum(dim=3, keepdim=True).argmin(dim=0, keepdim=True)
    return found.gather(0, best.expand(1, *blocks.shape)).squeeze(0)


def ternary(blocks: Tensor) -> Tensor:
    """0 below 0.7 of the mean, else the sign times the mean of the rest (Li and Liu 2016)."""
    size = blocks.abs()
    kept = size > 0.7 * size.mean(dim=2, keepdim=True)
    mean = (size * kept).sum(dim=2, keepdim=True) / kept.sum(dim=2, keepdim=True).clamp(min=1)
    return blocks.sign() * kept * mean


def one_bit(blocks: Tensor) -> Tensor:
    """The sign, times the mean (Rastegari et al. 2016, XNOR-Net, equation 6)."""
    return torch.where(blocks < 0, -1.0, 1.0) * blocks.abs().mean(dim=2, keepdim=True)


CODES: dict[str, tuple[float, Callable[[Tensor], Tensor], float]] = {
    "int4": (4.5, four_bits, 0.15),
    "2 bits": (2.5, two_bits, 1.0),
    "ternary": (2.1, ternary, 1.0),
    "binary": (1.5, one_bit, 1.0),
}
"""Bits of a value, with its share of a scale of 16 bits; the values of blocks (R, X, 32); and the
weight of the loss of RUN, whose answers fewer bits cannot keep anyway."""


class StraightThrough(nn.Module):
    """Rounded forwards; the gradient takes no notice."""

    def __init__(self, rounded: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._rounded = rounded

    def forward(self, weight: Tensor) -> Tensor:
        """(N + 1, D) -> (N + 1, D)."""
        blocks = weight.detach().view(len(weight), -1, rounding.BLOCK)
        return weight + (self._rounded(blocks).view_as(weight) - weight).detach()


class LowBitStudent(RoundedStudent):
    """All of it learns, the rounded vectors too."""

    def __init__(
        self, teacher: SASRec, student: SASRec, rounded: Callable[[Tensor], Tensor], targets: float
    ) -> None:
        super().__init__(teacher, student, targets)
        student.item_embedding.weight.requires_grad_(True)
        through = StraightThrough(rounded)
        parametrize.register_parametrization(student.item_embedding, "weight", through)


def rows_of(run: Run, epochs: int, names: list[str]) -> list[dict[str, Any]]:
    """A row of figures for each kind of codes."""
    assert isinstance(run.model, SASRec)
    validation = Validation(run.split, repeats=run.recipe.repeats)
    exact = Reference(run.model, run.split.catalogue)
    found = []
    for name in names:
        bits, rounded, targets = CODES[name]
        torch.manual_seed(run.config.seed)
        student = copy.deepcopy(run.model)
        set_table(student, student.item_table().detach())
        teacher = copy.deepcopy(run.model)
        model = LowBitStudent(teacher, student, rounded, targets)
        config = replace(run.config, epochs=epochs, learning_rate=_LEARNING_RATE)
        records = fit_by_gradient(model, run.split, config, partial(validation.metrics, student))
        student.cpu()
        cost = price(exact, Reference(student, run.split.catalogue), run, size=bits / 32)
        found.append(
            {
                "log": run.directory.name,
                "codes": name,
                "bits": bits,
                "epochs": [record.valid and record.valid["ndcg@10"] for record in records],
                **cost.to_json(),
            }
        )
        print(json.dumps(found[-1]), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--codes", nargs="+", choices=CODES, default=[*CODES])
    parser.add_argument("--out", type=Path, help="JSON lines are appended")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = rows_of(Run.load(given.run), given.epochs, given.codes)
    if given.out is not None:
        with open(given.out, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
