"""Recommendations from one model file, with numpy and onnxruntime and nothing else."""

import os

# From 1.29 on onnxruntime reports its use to its maker unless it is told not to before its own
# import; the thread that does so also keeps forked children from ending. A value that is set
# already stays. An application that imports onnxruntime before attnrec has to set it itself.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from typing import TYPE_CHECKING

from attnrec.runtime.errors import (
    AttnrecError,
    DataError,
    ModelFileError,
    ParityError,
    RunError,
    SelfTestError,
)
from attnrec.runtime.lazy import on_first_use
from attnrec.runtime.version import __version__

if TYPE_CHECKING:
    from attnrec.runtime.answers import Recommendations, SimilarItems
    from attnrec.runtime.explain import Explanation
    from attnrec.runtime.model_file.facts import ModelInfo
    from attnrec.runtime.recommender import Recommender
else:
    __getattr__ = on_first_use(
        __name__,
        {
            "explain": ["Explanation"],
            "model_file.facts": ["ModelInfo"],
            "answers": ["Recommendations", "SimilarItems"],
            "recommender": ["Recommender"],
        },
    )

__all__ = [
    "AttnrecError",
    "DataError",
    "Explanation",
    "ModelFileError",
    "ModelInfo",
    "ParityError",
    "Recommendations",
    "Recommender",
    "RunError",
    "SelfTestError",
    "SimilarItems",
    "__version__",
]
