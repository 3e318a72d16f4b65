"""Training: from a log of events to a run directory. Needs the extra `attnrec[train]`."""

from typing import TYPE_CHECKING

from attnrec.runtime import on_first_use

if TYPE_CHECKING:
    from attnrec.train.data.interactions import Interactions
    from attnrec.train.data.load import load_interactions
    from attnrec.train.data.recipe import DataRecipe
    from attnrec.train.evaluation.comparison import Comparison, compare, evaluate
    from attnrec.train.evaluation.metrics import Metrics, evaluate_answers
    from attnrec.train.fitting.config import TrainConfig
    from attnrec.train.runs.final import train_final
    from attnrec.train.runs.run import Run
    from attnrec.train.runs.train import train
    from attnrec.train.splits.config import TimeSplit
    from attnrec.train.tuning.search import tune
else:
    __getattr__ = on_first_use(
        __name__,
        {
            "evaluation.comparison": ["Comparison", "compare", "evaluate"],
            "fitting.config": ["TrainConfig"],
            "evaluation.metrics": ["Metrics", "evaluate_answers"],
            "data.interactions": ["Interactions"],
            "data.load": ["load_interactions"],
            "data.recipe": ["DataRecipe"],
            "runs.run": ["Run"],
            "runs.final": ["train_final"],
            "runs.train": ["train"],
            "splits.config": ["TimeSplit"],
            "tuning.search": ["tune"],
        },
    )

__all__ = [
    "Comparison",
    "DataRecipe",
    "Interactions",
    "Metrics",
    "Run",
    "TimeSplit",
    "TrainConfig",
    "compare",
    "evaluate",
    "evaluate_answers",
    "load_interactions",
    "train",
    "train_final",
    "tune",
]
