"""Training: from a log of events to a run directory. Needs the extra `attnrec[train]`."""

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
