"""Training: from a log of events to a run directory. Needs the extra `attnrec[train]`."""

from typing import TYPE_CHECKING

from attnrec.runtime.lazy import on_first_use

if TYPE_CHECKING:
    from attnrec.train.comparison import Comparison, compare
    from attnrec.train.config import TrainConfig
    from attnrec.train.evaluate_file import evaluate
    from attnrec.train.evaluation import Metrics, evaluate_answers
    from attnrec.train.fine_tuning import fine_tune
    from attnrec.train.interactions import Interactions
    from attnrec.train.loading import load_interactions
    from attnrec.train.recipe import DataRecipe
    from attnrec.train.run import Run
    from attnrec.train.training import train, train_final
    from attnrec.train.tuning import tune
else:
    __getattr__ = on_first_use(
        __name__,
        {
            "comparison": ["Comparison", "compare"],
            "config": ["TrainConfig"],
            "evaluate_file": ["evaluate"],
            "evaluation": ["Metrics", "evaluate_answers"],
            "fine_tuning": ["fine_tune"],
            "interactions": ["Interactions"],
            "loading": ["load_interactions"],
            "recipe": ["DataRecipe"],
            "run": ["Run"],
            "training": ["train", "train_final"],
            "tuning": ["tune"],
        },
    )

__all__ = [
    "Comparison",
    "DataRecipe",
    "Interactions",
    "Metrics",
    "Run",
    "TrainConfig",
    "compare",
    "evaluate",
    "evaluate_answers",
    "fine_tune",
    "load_interactions",
    "train",
    "train_final",
    "tune",
]
