"""Recommendations from one model file, with numpy and onnxruntime and nothing else."""

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
