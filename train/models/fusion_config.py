"""The settings of `fusion`, and those that follow from the log where they are not given.

Every rule of the recipe stands on measurements in benchmarks/accuracy/LOG.md. A value that is
given wins; a setting that is neither given nor in the recipe has its default. To try another rule,
change a line. Without torch, as `configs`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnrec.train.checks import LARGEST, check_number, check_size
from attnrec.train.models.configs import (
    EaseConfig,
    MarkovChainConfig,
    NeighbourConfig,
    RecencyConfig,
    check_optional,
    check_switch,
)
from attnrec.train.splits.config import TimeSplit

if TYPE_CHECKING:
    from attnrec.train.splits.split import Catalogue, Split

MOST_EASE_ITEMS = 20_000  # three matrices of this width, squared, are 4.8 GB
UNTUNED_DECAY = 0.7
"""Of the counts of `fusion`, while validation has not chosen."""
NEWEST = MarkovChainConfig.max_len
"""Events of a history that transitions and content look at."""

_MORE_NEIGHBOURS = 32
_NEIGHBOURS_BY_CONTENT = 24
_LENGTHS = (20, 50, 100)
_LEAST_STEPS = 2500
_NEIGHBOURS = ((150, 128), (40, 48), (0, 32))  # from so many events an item on
_MANY_EVENTS, _MANY_ITEMS = 400_000, 5000
_SOME_EVENTS, _USUAL_EVENTS = 50_000, 50  # in all, of an item
_FEW_EVENTS = 8  # of an item
_Rules = dict[str, tuple[int | float | str | bool, str]]
_FIRST_REAL_TIME = 10**8  # Unix seconds, 1973: times of a log that has only an order are below


@dataclass(frozen=True)
class FusionConfig(RecencyConfig):
    """Attention as in `sasrec`, and how the counts are made and added."""

    decayed_history: bool = True
    """History decay: add the decayed sum of the item vectors, through one matrix, to the output of
    the blocks."""
    count_weight: float | None = None
    """Weight of the counted transitions against attention, w; None: chosen by validation, which
    may choose 0."""
    count_floor: float = 1e-3
    """Least share of the counts that an item gets: below it, counts do not move its score."""
    history_decay: float | None = None
    """Weight of an event relative to the next one, for the counts; None: chosen by validation."""
    ease: bool = False
    """Add EASE, which looks at the newest `max_len` events without their order."""
    ease_weight: float | None = None
    """Weight of EASE against attention, v; None: chosen by validation, which may choose 0."""
    ease_regularization: float = 300.0
    """Lambda of EASE."""
    content: bool = False
    """Add items that are described like those of the history, by words, attributes, vectors."""
    content_weight: float | None = None
    """Weight of content against attention; None: chosen by validation, which may choose 0."""
    content_decay: float | None = None
    """Weight of an event relative to the next one, for content; None: chosen by validation."""
    content_vectors: float | None = None
    """Share of vectors in the likeness of two items, beside words; None: chosen by validation."""
    trend: bool = False
    """Add what is popular now; needs `time_gaps`, because it fades by the time of a request."""
    trend_weight: float | None = None
    """Weight of the trend against attention; None: chosen by validation after a cut in time, 0
    unless it certainly helps."""
    trend_half_life: float | None = None
    """Days after which an event counts half for the trend; None: chosen by validation."""
    trend_fade: float = 60.0
    """Days after the newest event of the log until half of the trend is left."""
    n_neighbours: int = 32
    """Neighbours kept for an item on average, M, of transitions and EASE together, the strongest
    of the catalogue; the size of the file grows with N * M."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_optional("count_weight", self.count_weight, lowest=0)
        check_number("count_floor", self.count_floor, above=0)
        check_size("n_neighbours", self.n_neighbours)
        self.chain()
        check_switch("ease", self.ease)
        check_optional("ease_weight", self.ease_weight, lowest=0)
        check_number("ease_regularization", self.ease_regularization, above=0)
        check_switch("content", self.content)
        check_optional("content_weight", self.content_weight, lowest=0)
        check_optional("content_decay", self.content_decay, lowest=0)
        if self.content_vectors is not None:
            check_number("content_vectors", self.content_vectors, lowest=0, highest=1)
        check_switch("trend", self.trend)
        check_optional("trend_weight", self.trend_weight, lowest=0)
        check_optional("trend_half_life", self.trend_half_life, above=0)
        check_number("trend_fade", self.trend_fade, above=0)
        if self.trend and not self.time_gaps:
            raise ValueError(
                "`trend` ages by the time of a request, which a model reads with "
                "`time_gaps=true`: set both, or neither"
            )

    def chain(self) -> MarkovChainConfig:
        """The settings of its transitions."""
        decay = UNTUNED_DECAY if self.history_decay is None else self.history_decay
        kept = self.most_neighbours
        return MarkovChainConfig(self.n_items, history_decay=decay, n_neighbours=kept)

    def solved(self) -> EaseConfig:
        """The settings of its EASE. `ValueError` for too many items to solve it for."""
        if self.n_items > MOST_EASE_ITEMS:
            raise ValueError(
                f"ease is for {MOST_EASE_ITEMS:,} items at most, and here are {self.n_items:,}: "
                "leave it out with `ease=false`, or drop rare items with `min_item_events`"
            )
        strength, kept = self.ease_regularization, self.most_neighbours
        return EaseConfig(self.n_items, regularization=strength, n_neighbours=kept)

    def described(self) -> NeighbourConfig:
        """The settings of its neighbours by content."""
        return NeighbourConfig(self.n_items, n_neighbours=_NEIGHBOURS_BY_CONTENT)

    @property
    def most_neighbours(self) -> int:
        """Kept for one item at most, and of each expert the number that is chosen from."""
        return min(self.n_neighbours + _MORE_NEIGHBOURS, LARGEST["n_neighbours"])


def fusion_recipe(split: "Split") -> _Rules:
    """Value and reason of every setting that follows from the training events of a log."""
    sequences = split.sequences
    n_events = len(sequences.rows)
    # Of every event: how many came before it.
    place = np.arange(n_events) - np.repeat(sequences.offsets[:-1], np.diff(sequences.offsets))
    reach = int(np.quantile(place, 0.8)) if n_events else 0
    max_len = next((length for length in _LENGTHS if reach <= length), _LENGTHS[-1])
    times = sequences.timestamps
    has_times = times is not None and len(times) > 0 and float(np.median(times)) > _FIRST_REAL_TIME
    described = split.catalogue.is_described()
    size = split.catalogue.n_items, n_events
    return {
        "max_len": (max_len, f"80 % of the events have at most {reach} events before them"),
        **_parts(*size),
        "time_gaps": (
            has_times,
            "the log has times, and the time since an event helps to predict the next one"
            if has_times
            else "the log has an order, but no times",
        ),
        "content": (
            described,
            "the items are described" if described else "nothing describes the items",
        ),
        **_vectors(split.catalogue),
        **_trend(split, has_times=has_times),
        **_fitting(*size),
    }


def _trend(split: "Split", *, has_times: bool) -> _Rules:
    """Whether validation can show what a trend is worth, and for how long it was shown."""
    if not (has_times and isinstance(split.by, TimeSplit)):
        return {"trend": (False, "only what lies after a cut in time shows what a trend is worth")}
    # Only here: it needs scipy, and commands read the settings.
    from attnrec.train.splits.time_split import DAY, cuts_of

    cuts = cuts_of(split.by, split.interactions)
    days = (cuts.test_from - cuts.valid_from) / DAY
    return {
        "trend": (True, "validation lies after a cut in time, and shows what a trend is worth"),
        "trend_fade": (
            float(f"{2 * days:.4g}"),
            f"twice the {days:.3g} days that it was validated for",
        ),
    }


def _vectors(catalogue: "Catalogue") -> dict[str, tuple[float, str]]:
    """The share of vectors, where there is nothing to choose."""
    if catalogue.has_words() == bool(catalogue.vectors):
        return {}
    share, what = (1.0, "nothing but") if catalogue.vectors else (0.0, "no")
    return {"content_vectors": (share, f"{what} vectors describe the items")}


def _parts(n_items: int, n_events: int) -> _Rules:
    """What a model of a log of this size consists of."""
    is_small = n_events < _MANY_EVENTS
    is_scarce = _SOME_EVENTS <= n_events < _USUAL_EVENTS * n_items
    is_narrow = is_small and not is_scarce and n_items <= _MANY_ITEMS
    rule = (
        f"above 5,000 items, from 400,000 events, or from {_SOME_EVENTS:,} where an item has "
        f"fewer than {_USUAL_EVENTS}"
    )
    return {
        "hidden_dim": (
            64 if is_narrow else 128,
            f"{n_items:,} items and {n_events:,} events: 128 {rule}, else 64",
        ),
        "n_blocks": (
            1 if is_narrow else 2,
            f"{n_items:,} items and {n_events:,} events: 2 {rule}, else 1, which is as accurate "
            "and faster",
        ),
        "timed_blocks": (
            1 if is_small else 2,
            f"{n_events:,} events: 2 from 400,000 on, else the last one, which is faster",
        ),
        "n_neighbours": (
            next(n for least, n in _NEIGHBOURS if n_events >= least * n_items),
            f"{n_events / max(1, n_items):,.0f} events an item: 32; from 40 on 48, from 150 on "
            "128",
        ),
        "ease": (
            n_items <= MOST_EASE_ITEMS,
            f"{n_items:,} items: up to {MOST_EASE_ITEMS:,} EASE takes minutes and 5 GB of memory",
        ),
    }


def _fitting(n_items: int, n_events: int) -> _Rules:
    """How it is trained."""
    is_small, is_wide = n_events < _MANY_EVENTS, n_items > _MANY_ITEMS
    is_sparse = n_events < _FEW_EVENTS * n_items
    batch_events = int(np.clip(n_events // 100, 50, 800))
    epochs = int(np.clip(np.ceil(_LEAST_STEPS * batch_events / max(1, n_events)), 20, 60))
    return {
        "dropout": (
            0.5 if is_small else 0.2,
            f"{n_events:,} training events: a model overfits a small log sooner",
        ),
        "temperature": (
            0.15 if is_sparse else 0.07,
            f"{n_events / max(1, n_items):.1f} events an item: below {_FEW_EVENTS} 0.15, so that "
            "few events do not say too much, else 0.07",
        ),
        "loss": (
            "sampled-softmax" if is_wide else "softmax",
            f"{n_items:,} items: above 5,000 a sample is as accurate and more than twice as fast",
        ),
        "n_negatives": (
            1024,
            "of sampled-softmax: all events of a batch share the sampled items",
        ),
        "batch_events": (
            batch_events,
            "1 % of the training events, from 50 to 800: more steps in a small log",
        ),
        "epochs": (epochs, f"20; up to 60 where 20 are fewer than {_LEAST_STEPS:,} steps"),
        "patience": (
            10,
            "validation NDCG@10 varies until the learning rate has fallen",
        ),
    }
