"""What is compared."""

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from turns import Row

PEERS = (
    Row("rectools", "RecTools 0.19 `recommend`", "rectools", "rectools_recommend"),
    Row("replay", "RePlay 0.22 compiled (OpenVINO), rest by hand", "replay", "replay_compiled"),
    Row(
        *("onnxruntime", "onnxruntime on RePlay's file, rest by hand"),
        *("onnxruntime", "onnxruntime_by_hand"),
    ),
    Row("torch", "torch eager, the training module of `sasrec`", "here", "torch_eager"),
)
FAISS = (
    Row("faiss-flat", "faiss IndexFlatIP, the scan alone", "faiss", "faiss_exact:flat"),
    Row("faiss-sq8", "faiss 8-bit codes (SQ8), the scan alone", "faiss", "faiss_exact:sq8"),
)


def own_row(name: str) -> Row:
    """attnrec with a file: `sasrec-int8`, say."""
    model, _, profile = name.partition("-")
    default = ", the default model" if model == "fusion" else ""
    return Row(name, f"attnrec `{model}`{default}, {profile}", "attnrec", f"attnrec_file:{name}")


def mean_overlap(answers: Sequence[Sequence[Any]], exact: Sequence[Sequence[Any]]) -> float:
    """Mean share of the exact items that are answered."""
    return float(np.mean([len({*a} & {*b}) / len(b) for a, b in zip(answers, exact, strict=True)]))


def machine() -> dict[str, str]:
    """Where it was measured; the name of the processor is told on Linux."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {"processor": names[0] if names else "", "python": platform.python_version()}
