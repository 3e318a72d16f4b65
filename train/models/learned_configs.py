"""Settings of the models that learn, apart from them: commands read these without torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from attnrec.train.checks import check_choice, check_number, check_size, check_whole
from attnrec.train.layers.loss_config import LossConfig
from attnrec.train.models.counted_configs import EaseConfig, MarkovChainConfig

Logits = Literal["cosine", "dot"]


@dataclass(frozen=True)
class SASRecConfig(LossConfig):
    """The shape of the model; everything that the weights alone do not say."""

    n_items: int
    """Items in the catalogue, N; the table has one row more, row 0, the start token."""
    max_len: int = 50
    """Newest events of a history that count, T."""
    hidden_dim: int = 64
    """Width of item vectors and states, D."""
    n_blocks: int = 2
    """Transformer blocks."""
    n_heads: int = 2
    """Attention heads; must divide `hidden_dim`."""
    dropout: float = 0.3
    """Share of activations dropped in training."""
    logits: Logits = "cosine"
    """Item vectors and states on the unit sphere, or as they are."""
    temperature: float = 0.07
    """Logits are divided by this."""
    fading_sum: bool = False
    """Add the decayed sum of the item vectors, through one matrix, to the output of the blocks: so
    the first epochs already use recent events, which blocks alone learn later."""
    time_gaps: bool = False
    """Use the times of the events and of the request, see `time_gaps`. A request may leave both
    out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("n_items", self.n_items)
        for name in ("max_len", "hidden_dim", "n_blocks", "n_heads"):
            check_size(name, getattr(self, name))
        check_number("dropout", self.dropout, lowest=0, below=1)
        check_number("temperature", self.temperature, above=0)
        check_choice("logits", self.logits, get_args(Logits))
        for name in ("fading_sum", "time_gaps"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"`{name}` must be true or false, not {getattr(self, name)!r}")
        if self.hidden_dim % self.n_heads:
            raise ValueError(
                f"`hidden_dim={self.hidden_dim}` is not divisible by `n_heads={self.n_heads}`; "
                "change one of them"
            )


Attention = Literal["dot", "additive", "self", "multi-head"]

Query = Literal["last", "learned"]


@dataclass(frozen=True)
class AttentionPoolConfig(LossConfig):
    """The shape of the model."""

    n_items: int
    """Items in the catalogue, N; the table has one row more, row 0, the start token."""
    attention: Attention = "self"
    """How the events of a history are weighed."""
    query: Query = "last"
    """Who asks: the newest item, or a learned vector."""
    max_len: int = 50
    """Newest events of a history that count, T."""
    hidden_dim: int = 64
    """Width of item vectors and states, D, and of the hidden layer of `additive`, H."""
    n_heads: int = 2
    """Heads of `multi-head`; must divide `hidden_dim`."""
    dropout: float = 0.3
    """Share of the numbers of item vectors dropped in training."""
    logits: Logits = "cosine"
    """Item vectors and states on the unit sphere, or as they are."""
    temperature: float = 0.07
    """Logits are divided by this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("n_items", self.n_items)
        for name in ("max_len", "hidden_dim", "n_heads"):
            check_size(name, getattr(self, name))
        check_number("dropout", self.dropout, lowest=0, below=1)
        check_number("temperature", self.temperature, above=0)
        check_choice("attention", self.attention, get_args(Attention))
        check_choice("query", self.query, get_args(Query))
        check_choice("logits", self.logits, get_args(Logits))
        if self.attention == "multi-head" and self.hidden_dim % self.n_heads:
            raise ValueError(
                f"`hidden_dim={self.hidden_dim}` is not divisible by `n_heads={self.n_heads}`; "
                "change one of them"
            )


@dataclass(frozen=True)
class PairConfig:
    """The settings that these models have in common."""

    n_items: int
    """Items in the catalogue, N."""
    n_users: int = 0
    """Users of the log; row 0 of their table is the stranger."""
    n_tags: int = 0
    """Tags of users; 0: the model does not ask for any."""
    max_len: int = 1
    """Events of a history that count: none do, but the graph wants a width."""
    hidden_dim: int = 32
    """Width of the vectors, D."""
    n_negatives: int = 4
    """Items that the user has not taken, drawn anew for every event of every epoch."""
    user_dropout: float = 0.1
    """Share of the training events whose user is made a stranger."""

    def __post_init__(self) -> None:
        check_whole("n_items", self.n_items)
        for name in ("max_len", "hidden_dim", "n_negatives"):
            check_size(name, getattr(self, name))
        check_whole("n_users", self.n_users, 0)
        check_whole("n_tags", self.n_tags, 0)
        check_number("user_dropout", self.user_dropout, lowest=0, below=1)


@dataclass(frozen=True)
class NeuMFConfig(PairConfig):
    """The shape of the model: D -> vectors of D and 2 D, hidden layers of 2 D and D."""

    hidden_dim: int = 16
    """Predictive factors of each half, D."""
    dropout: float = 0.0
    """Share of activations dropped in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("dropout", self.dropout, lowest=0, below=1)


MOST_EASE_ITEMS = 20_000  # three matrices of this width, squared, are 4.8 GB
UNTUNED_DECAY = 0.7
"""Of the history, for the counts of `fusion`, while validation has not chosen."""


@dataclass(frozen=True)
class FusionConfig(SASRecConfig):
    """Attention as in `sasrec`, and how the counts are made and added."""

    fading_sum: bool = True
    """Add the decayed sum of the item vectors, through one matrix, to the output of the blocks."""
    count_weight: float | None = None
    """Weight of the counted transitions against attention, w; None: chosen by validation."""
    count_floor: float = 1e-3
    """Least share of the counts that an item gets: below it, counts say nothing about the item."""
    history_decay: float | None = None
    """Weight of an event relative to the next one, for the counts; None: chosen by validation."""
    ease: bool = False
    """Add EASE, which looks at the newest `max_len` events without their order."""
    ease_weight: float | None = None
    """Weight of EASE against attention, v; None: chosen by validation, which may choose 0."""
    ease_regularization: float = 300.0
    """Lambda of EASE."""
    n_neighbours: int = 100
    """Strongest transitions, and strongest entries of EASE, kept for each item, M; the size of the
    file grows with N * M."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count_weight is not None:
            check_number("count_weight", self.count_weight, lowest=0)
        check_number("count_floor", self.count_floor, above=0)
        self.chain()
        if not isinstance(self.ease, bool):
            raise ValueError(f"`ease` must be true or false, not {self.ease!r}")
        if self.ease and self.n_items > MOST_EASE_ITEMS:
            raise ValueError(
                f"ease is for {MOST_EASE_ITEMS:,} items at most, and here are {self.n_items:,}: "
                "leave it out with `ease=false`, or drop rare items with `min_item_events`"
            )
        if self.ease_weight is not None:
            check_number("ease_weight", self.ease_weight, lowest=0)
        check_number("ease_regularization", self.ease_regularization, above=0)

    def chain(self) -> MarkovChainConfig:
        """The same for the transitions alone."""
        decay = UNTUNED_DECAY if self.history_decay is None else self.history_decay
        return MarkovChainConfig(self.n_items, history_decay=decay, n_neighbours=self.n_neighbours)

    def solved(self) -> EaseConfig:
        """The same for EASE alone."""
        strength, kept = self.ease_regularization, self.n_neighbours
        return EaseConfig(self.n_items, regularization=strength, n_neighbours=kept)
