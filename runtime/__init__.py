"""Recommendations from one model file, with numpy and onnxruntime and nothing else."""

import os

# From 1.29 on onnxruntime reports every model to its maker unless it is told not to before its
# import; its uploading thread also keeps a forked child from ever ending. Set to 0, it may.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from attnrec.runtime.errors import (
    AttnrecError,
    DataError,
    ModelFileError,
    ParityError,
    RunError,
    SelfTestError,
)
from attnrec.runtime.model_info import ModelInfo
from attnrec.runtime.recommendations import Recommendations
from attnrec.runtime.recommender import Recommender
from attnrec.runtime.version import __version__

__all__ = [
    "AttnrecError",
    "DataError",
    "ModelFileError",
    "ModelInfo",
    "ParityError",
    "Recommendations",
    "Recommender",
    "RunError",
    "SelfTestError",
    "__version__",
]
