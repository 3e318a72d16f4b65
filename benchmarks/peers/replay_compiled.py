"""RePlay 0.22: its SasRec, compiled with OpenVINO; what it leaves to its user is numpy.

`prepare` writes a checkpoint with random weights, and the ONNX file that RePlay makes of it.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from by_hand import ByHand
from lightning import Trainer
from replay.data import FeatureHint, FeatureType
from replay.data.nn import TensorFeatureInfo, TensorSchema
from replay.models.nn.sequential import SasRec
from replay.models.nn.sequential.compiled import SasRecCompiled

warnings.filterwarnings("ignore")


class Compiled:
    """It keeps no compiled model: each process exports and compiles its checkpoint anew."""

    comes_back = "raw scores of all items, by token, as a torch tensor"

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.checkpoint = folder / "replay.ckpt"
        self.one = SasRecCompiled.compile(self.checkpoint, mode="one_query", num_threads=1)
        self.many: dict[int, SasRecCompiled] = {}
        self.by_hand = ByHand(folder)

    def ask(self, history: list[Any]) -> list[Any]:
        return self.answer(self.one, [history])[0]

    def ask_batch(self, histories: list[list[Any]]) -> list[list[Any]]:
        size = len(histories)
        if size not in self.many:
            self.many[size] = SasRecCompiled.compile(
                self.checkpoint, mode="batch", batch_size=size, num_threads=1
            )
        return self.answer(self.many[size], histories)

    def answer(self, model: SasRecCompiled, histories: list[list[Any]]) -> list[list[Any]]:
        by_hand = self.by_hand
        known = [by_hand.known(history) for history in histories]
        tokens, real = (torch.from_numpy(array) for array in by_hand.padded(known))
        batch = {"feature_tensor": {"item_id": tokens}, "padding_mask": real}
        scores = model.predict(batch).numpy()  # (B, N)
        return [by_hand.best(row, seen) for row, seen in zip(scores, known, strict=True)]


def prepare(folder: Path, setting: dict[str, Any]) -> None:
    torch.manual_seed(0)
    item = TensorFeatureInfo(
        "item_id",
        FeatureType.CATEGORICAL,
        is_seq=True,
        feature_hint=FeatureHint.ITEM_ID,
        cardinality=setting["n_items"],
        padding_value=setting["n_items"],
    )
    model = SasRec(
        TensorSchema([item]),
        block_count=setting["n_blocks"],
        head_count=setting["n_heads"],
        hidden_size=setting["hidden_dim"],
        max_seq_len=setting["max_len"],
    )
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(folder / "replay.ckpt")
    SasRecCompiled.compile(folder / "replay.ckpt", onnx_path=str(folder / "replay.onnx"))


def load(folder: Path, variant: str) -> Compiled:
    return Compiled(folder)
