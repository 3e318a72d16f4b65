"""onnxruntime on the file that RePlay exports, as an expert writes it: numpy around a session."""

from pathlib import Path
from typing import Any

import onnxruntime
from by_hand import ByHand


class OnnxRuntime:
    """One file for one history and for many: its batch axis is dynamic."""

    comes_back = "raw scores of all items, by token"

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        file = str(folder / "replay.onnx")
        self.session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
        self.by_hand = ByHand(folder)

    def ask(self, history: list[Any]) -> list[Any]:
        return self.ask_batch([history])[0]

    def ask_batch(self, histories: list[list[Any]]) -> list[list[Any]]:
        by_hand = self.by_hand
        known = [by_hand.known(history) for history in histories]
        tokens, real = by_hand.padded(known)
        feed = {"item_id": tokens, "padding_mask": real}
        (scores,) = self.session.run(None, feed)  # (B, N)
        return [by_hand.best(row, seen) for row, seen in zip(scores, known, strict=True)]


def load(folder: Path, variant: str) -> OnnxRuntime:
    return OnnxRuntime(folder)
