"""Does it pay to remove heads, hidden units or layers of a trained `sasrec`?

    python benchmarks/pruning.py RUN --epochs 1 --out pruning.jsonl

RUN is a directory of `attnrec-train --model sasrec`. Of every part the half goes that validation
misses least: layers and heads are left out one at a time, and the loss of 2,000 validation users
is measured; hidden units of the feed-forward networks by the first-order change of that loss
(Molchanov et al. 2019). The matrices get smaller, and all is trained for a little longer at a
third of the learning rate. Beside them: the same training with nothing removed, and one block
trained anew, as RUN was, but to its last epoch. NDCG@10 is of the test events, from the files,
with its paired 95 % interval against the file of RUN; times are of an answer after 50 events, one
thread, all files of a call in turn.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attnrec.cli.bench.timing import Subject, take_turns
from attnrec.export.build import FileBuilder
from attnrec.export.quantize.cost import quantization_cost
from attnrec.train import Run
from attnrec.train.fitting.loop import fit_by_gradient
from attnrec.train.layers.losses import catalogue_softmax
from attnrec.train.models.sasrec import SASRec, TransformerBlock
from attnrec.train.splits.batches import left_pad

_ANEW = "one block, trained anew"
_SETTINGS = ("nothing", "heads", "ffn", "layers", "heads,ffn,layers", _ANEW)
_ASKED = 2000  # validation users whose loss says what hidden units are worth


def without_heads(block: TransformerBlock, kept: list[int]) -> TransformerBlock:
    """The same with the heads `kept` alone."""
    narrow = copy.deepcopy(block)
    dim = block.query.in_features
    size = block.query.out_features // block.n_heads
    rows = torch.cat([torch.arange(head * size, (head + 1) * size) for head in kept])
    narrow.n_heads = len(kept)
    narrow.query = _rows(block.query, rows)
    narrow.key_value = _rows(block.key_value, torch.cat([rows, rows + dim]))
    narrow.attention_output = _columns(block.attention_output, rows)
    return narrow


def without_units(block: TransformerBlock, kept: Tensor) -> TransformerBlock:
    """The same with the hidden units `kept` of its feed-forward network alone."""
    narrow = copy.deepcopy(block)
    narrow.expand = _rows(block.expand, kept)
    narrow.contract = _columns(block.contract, kept)
    return narrow


def _rows(layer: nn.Linear, kept: Tensor) -> nn.Linear:
    made = nn.Linear(layer.in_features, len(kept))
    made.weight.data, made.bias.data = layer.weight.data[kept], layer.bias.data[kept]
    return made


def _columns(layer: nn.Linear, kept: Tensor) -> nn.Linear:
    made = nn.Linear(len(kept), layer.out_features)
    made.weight.data, made.bias.data = layer.weight.data[:, kept], layer.bias.data.clone()
    return made


class Asked:
    """Validation users whose loss says what a part is worth."""

    def __init__(self, run: Run) -> None:
        questions = run.split.held_out("valid", _ASKED)
        row = {item: n for n, item in enumerate(run.split.catalogue.item_ids.tolist(), start=1)}
        self._asked = [
            (np.array([row[i] for i in history.tolist() if i in row]), row[target])
            for history, target in zip(
                questions.histories, questions.targets.tolist(), strict=True
            )
            if target in row
        ]
        self._asked.sort(key=lambda one: len(one[0]))

    def losses(self, model: SASRec) -> Iterator[Tensor]:
        """The mean loss of 100 users at a time."""
        table = model.item_table()
        for start in range(0, len(self._asked), 100):
            histories, targets = zip(*self._asked[start : start + 100], strict=True)
            rows = left_pad(histories, model.config.max_len)
            states = model.state(nn.functional.embedding(rows, table), rows > 0)
            yield catalogue_softmax(states, table[1:], torch.tensor(targets) - 1)

    def loss(self, model: SASRec) -> float:
        """The mean of all."""
        with torch.no_grad():
            return float(np.mean([float(loss) for loss in self.losses(model)]))


def prune_layers(model: SASRec, asked: Asked) -> SASRec:
    """Half of the blocks, one after the other."""
    for _ in range(len(model.blocks) // 2):
        choices = []
        for gone in range(len(model.blocks)):
            less = copy.deepcopy(model)
            del less.blocks[gone]
            choices.append(less)
        model = min(choices, key=asked.loss)
    return model


def prune_heads(model: SASRec, asked: Asked) -> SASRec:
    """Half of the heads of each block."""
    for place, whole in enumerate(model.blocks):
        for _ in range(whole.n_heads // 2):
            choices = []
            n_heads = model.blocks[place].n_heads
            for gone in range(n_heads):
                less = copy.deepcopy(model)
                kept = [head for head in range(n_heads) if head != gone]
                less.blocks[place] = without_heads(model.blocks[place], kept)
                choices.append(less)
            model = min(choices, key=asked.loss)
    return model


def prune_units(model: SASRec, asked: Asked) -> SASRec:
    """Half of the hidden units of each block, by |activation * gradient| in validation."""
    worth = [torch.zeros(block.contract.in_features) for block in model.blocks]
    hidden: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        given[0].retain_grad()
        hidden.append(given[0])

    hooks = [block.contract.register_forward_pre_hook(keep) for block in model.blocks]
    for loss in asked.losses(model):
        loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        for block_worth, units in zip(worth, hidden, strict=True):
            assert units.grad is not None
            block_worth += (units * units.grad).sum(dim=0).abs().detach()
        hidden.clear()
    for hook in hooks:
        hook.remove()
    less = copy.deepcopy(model)
    less.zero_grad()
    for place, block_worth in enumerate(worth):
        kept = block_worth.topk(len(block_worth) // 2).indices.sort().values
        less.blocks[place] = without_units(model.blocks[place], kept)
    return less


def pruned(run: Run, parts: str, asked: Asked) -> SASRec:
    """The model without half of the `parts`."""
    assert isinstance(run.model, SASRec)
    model = copy.deepcopy(run.model)
    if "layers" in parts:
        model = prune_layers(model, asked)
    if "heads" in parts:
        model = prune_heads(model, asked)
    if "ffn" in parts:
        model = prune_units(model, asked)
    return model.eval()


def trained(run: Run, parts: str, asked: Asked, epochs: int) -> Run:
    """The run with a smaller model, after some training of it."""
    assert isinstance(run.model, SASRec)
    torch.manual_seed(run.config.seed)
    config = replace(run.config, epochs=epochs, learning_rate=run.config.learning_rate / 3)
    if parts == _ANEW:
        config, model = run.config, type(run.model)(replace(run.model.config, n_blocks=1))
    else:
        model = pruned(run, parts, asked)
    print(f"{parts}: loss {asked.loss(model.eval()):.4f}", end=" ", flush=True)
    fit_by_gradient(model, run.split, config, None)
    print(f"-> {asked.loss(model):.4f}", flush=True)
    return replace(run, model=model.cpu())


def rows_of(run: Run, settings: list[str], epochs: int, seconds: float) -> list[dict[str, Any]]:
    """A row of figures for each setting."""
    asked = Asked(run)
    made = {"as trained": run} | {p: trained(run, p, asked, epochs) for p in settings}
    drafts = {name: FileBuilder(of).of("fp32") for name, of in made.items()}
    exact = drafts["as trained"]
    with tempfile.TemporaryDirectory() as folder:
        calls = {}
        for name, draft in drafts.items():
            file = Path(folder) / f"{len(calls)}.onnx"
            file.write_bytes(draft.file)
            calls[name] = Subject.of_file(file).call(50, 1)
        taken = take_turns(calls, seconds)
    found = []
    for name, draft in drafts.items():
        cost = quantization_cost(exact.recommender(), draft.recommender(), run, size=1.0)
        median, fast = np.percentile(taken[name], [50, 10]).tolist()
        found.append(
            {
                "log": run.directory.name,
                "removed": name,
                "body_weights": sum(
                    weight.numel()
                    for label, weight in made[name].model.named_parameters()
                    if label != "item_embedding.weight"
                ),
                "file_mb": round(len(draft.file) / 1e6, 3),
                "median_us": round(median, 1),
                "p10_us": round(fast, 1),
                "valid_loss": round(asked.loss(made[name].model), 4),
                **cost.to_json(),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--settings", nargs="+", choices=_SETTINGS, default=[*_SETTINGS])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing, all files")
    parser.add_argument("--out", type=Path, help="JSON lines are appended")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = rows_of(Run.load(given.run), given.settings, given.epochs, given.seconds)
    for row in rows:
        line = json.dumps(row)
        print(line)
        if given.out is not None:
            with open(given.out, "a", encoding="utf-8") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
