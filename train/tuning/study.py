"""What a search tries next, and which settings matter: the part that Optuna does.

Nothing is kept between two trials: what the next one tries follows from the trials so far and
from the seed, so that a search that was interrupted goes on as if it had not been.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.trial import TrialState, create_trial

from attnrec.train.tuning.space import Between, Range, Space, near, settled
from attnrec.train.tuning.store import Trial

_N_NEAR = 6
_LEAST_IMPORTANT = 6  # trials: fewer say nothing about ten settings
_WARM_UP = 0.25  # share of the epochs before a trial may be stopped


class Proposal:
    """A trial that is to be made, and how it compares on the way."""

    def __init__(self, trial: optuna.Trial, values: dict[str, Any]) -> None:
        self._trial = trial
        self.values = values
        """By name of the setting."""

    def is_hopeless(self, epoch: int, ndcg: float) -> bool:
        """Whether it is behind the median of the others at this epoch."""
        self._trial.report(ndcg, epoch)
        return self._trial.should_prune()


def propose(
    trials: Sequence[Trial], space: Space, values: Mapping[str, Any], *, epochs: int, seed: int
) -> Proposal:
    """What to try after these trials: the recipe, then near to it, then where it looks good.

    values: those of the recipe.
    """
    number = len(trials)
    draw_seed = int(np.random.default_rng([seed, number]).integers(2**31))
    study = _study(trials, space, epochs, draw_seed)
    if number < _N_NEAR:
        drawn = near(space, values, np.random.default_rng(draw_seed))
        study.enqueue_trial({name: values[name] for name in space} if number == 0 else drawn)
    distributions = {name: _distribution(wanted) for name, wanted in space.items()}
    asked = study.ask(distributions)
    return Proposal(asked, settled(asked.params, space, values))


def importance(trials: Sequence[Trial], space: Space) -> dict[str, float]:
    """Share of the differences between trials that each setting explains (fANOVA), most first.

    A stopped trial counts with what it was heading for, see `expected`; failed ones do not. Empty
    where there are too few trials.
    """
    told = {trial.number: expected(trial, trials[0]) for trial in trials}
    figures = {number: figure for number, figure in told.items() if figure is not None}
    if len(figures) < _LEAST_IMPORTANT or len(set(figures.values())) == 1:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    distributions = {name: _distribution(wanted) for name, wanted in space.items()}
    for number, figure in figures.items():
        params = dict(trials[number].values)
        study.add_trial(create_trial(params=params, distributions=distributions, value=figure))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: round(float(share), 4) for name, share in found.items()}


def expected(trial: Trial, recipe: Trial) -> float | None:
    """What a trial reached, or was heading for when it was stopped.

    Then: what the recipe reached, times its ratio to the recipe at the same epoch.
    """
    if trial.counts or trial.outcome == "failed":
        return trial.ndcg
    n_epochs = min(len(trial.curve), len(recipe.curve))
    if not n_epochs or recipe.ndcg is None:
        return None
    before = max(recipe.curve[:n_epochs])
    return recipe.ndcg * max(trial.curve[:n_epochs]) / before if before else None


def _study(trials: Sequence[Trial], space: Space, epochs: int, seed: int) -> optuna.Study:
    """The trials as Optuna knows them."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it says a line each time
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(n_startup_trials=_N_NEAR, seed=seed),
        # The recipe is known to be good: a trial has to keep up with it from the second one on.
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=1, n_warmup_steps=max(1, round(_WARM_UP * epochs))
        ),
    )
    distributions = {name: _distribution(wanted) for name, wanted in space.items()}
    state = {"done": TrialState.COMPLETE, "failed": TrialState.FAIL}
    for trial in trials:
        is_done = trial.outcome == "done"
        study.add_trial(
            create_trial(
                state=state.get(trial.outcome, TrialState.PRUNED),
                value=trial.ndcg if is_done else None,
                params=dict(trial.values),
                distributions=distributions,
                intermediate_values=dict(enumerate(trial.curve, start=1)),
            )
        )
    return study


def _distribution(wanted: Range) -> BaseDistribution:
    if isinstance(wanted, Between):
        return FloatDistribution(wanted.low, wanted.high, log=wanted.by_factors)
    return CategoricalDistribution(wanted.values)
