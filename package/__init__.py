"""attnrec: an attention recommender that is trained in PyTorch and runs anywhere from one file.

    from attnrec import Recommender
    from attnrec.train import train

The names here need numpy and onnxruntime, and are imported when they are first used.
"""

from typing import TYPE_CHECKING

from attnrec.runtime import on_first_use
from attnrec.runtime.version import __version__

if TYPE_CHECKING:
    from attnrec.runtime import (
        AttnrecError,
        Explanation,
        ModelInfo,
        Recommendations,
        Recommender,
        SimilarItems,
    )
else:
    __getattr__ = on_first_use(
        __name__,
        {
            "runtime": [
                "AttnrecError",
                "Explanation",
                "ModelInfo",
                "Recommendations",
                "Recommender",
                "SimilarItems",
            ]
        },
    )

__all__ = [
    "AttnrecError",
    "Explanation",
    "ModelInfo",
    "Recommendations",
    "Recommender",
    "SimilarItems",
    "__version__",
]
