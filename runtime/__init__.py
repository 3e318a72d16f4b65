"""Recommendations from one model file, with numpy and onnxruntime and nothing else."""

import os

# From 1.29 on onnxruntime reports its use to its maker unless this is set before its own import;
# the thread that reports also keeps forked children from ending. A value that is set already
# stays. An application that imports onnxruntime before attnrec has to set it itself.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from attnrec.runtime.errors import (
    AttnrecError,
    DataError,
    ModelFileError,
    ParityError,
    RunError,
    SelfTestError,
)
from attnrec.runtime.version import __version__


def on_first_use(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """A `__getattr__` for `package` that imports the names of its modules on first use.

    A command then prints its help, or refuses its arguments, without the seconds that torch takes
    to import, and a message of `attnrec.runtime.errors` needs no onnxruntime.
    """
    module_of = {name: module for module, inside in names.items() for name in inside}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{module_of[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get


if TYPE_CHECKING:
    from attnrec.runtime.answers import Recommendations, SimilarItems
    from attnrec.runtime.explain import Explanation
    from attnrec.runtime.model_file.facts import ModelInfo
    from attnrec.runtime.recommender import Recommender
    from attnrec.runtime.rules import Rules
    from attnrec.runtime.slates import Slate
else:
    __getattr__ = on_first_use(
        __name__,
        {
            "explain": ["Explanation"],
            "model_file.facts": ["ModelInfo"],
            "answers": ["Recommendations", "SimilarItems"],
            "recommender": ["Recommender"],
            "rules": ["Rules"],
            "slates": ["Slate"],
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
    "Rules",
    "RunError",
    "SelfTestError",
    "SimilarItems",
    "Slate",
    "__version__",
]
