"""Settings of every model, apart from the models: commands read these without torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from attnrec.train.checks import check_choice, check_number, check_size, check_whole
from attnrec.train.layers.loss_config import LossConfig

# --- models with an item table, which learn

Logits = Literal["cosine", "dot"]


@dataclass(frozen=True)
class TableConfig(LossConfig):
    """The settings that these models have in common."""

    n_items: int
    """Items in the catalogue, N; the table has one row more, row 0, the start token."""
    max_len: int = 50
    """Newest events of a history that count, T."""
    hidden_dim: int = 64
    """Width of item vectors and states, D, and of the hidden layer of `additive` attention, H."""
    n_heads: int = 2
    """Heads of self-attention and of `multi-head`; must divide `hidden_dim`."""
    dropout: float = 0.3
    """Share of activations dropped in training."""
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
        check_choice("logits", self.logits, get_args(Logits))
        if self._has_heads and self.hidden_dim % self.n_heads:
            raise ValueError(
                f"`hidden_dim={self.hidden_dim}` is not divisible by `n_heads={self.n_heads}`; "
                "change one of them"
            )

    @property
    def _has_heads(self) -> bool:
        return True


@dataclass(frozen=True)
class SASRecConfig(TableConfig):
    """The shape of the model: what its weights alone do not determine."""

    n_blocks: int = 2
    """Transformer blocks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("n_blocks", self.n_blocks)


@dataclass(frozen=True)
class RecencyConfig(SASRecConfig):
    """SASRec, and how it learns how long ago an event was."""

    decayed_history: bool = False
    """History decay: add the decayed sum of the item vectors, through one matrix, to the output of
    the blocks, so the first epochs already use recent events."""
    time_gaps: bool = False
    """Time bias: use the times of the events and of the request. A request may leave both out."""
    timed_blocks: int = 1
    """Most blocks with time bias, the last ones: with more of them an answer takes longer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("decayed_history", "time_gaps"):
            check_switch(name, getattr(self, name))
        check_size("timed_blocks", self.timed_blocks)


Attention = Literal["dot", "additive", "self", "multi-head"]

Query = Literal["last", "learned"]


@dataclass(frozen=True)
class AttentionPoolConfig(TableConfig):
    """The shape of the model."""

    attention: Attention = "self"
    """How the events of a history are weighted."""
    query: Query = "last"
    """The query: the newest item, or a learned vector."""

    def __post_init__(self) -> None:
        check_choice("attention", self.attention, get_args(Attention))
        check_choice("query", self.query, get_args(Query))
        super().__post_init__()

    @property
    def _has_heads(self) -> bool:
        return self.attention == "multi-head"


# --- models of pairs of a user and an item, which learn


@dataclass(frozen=True)
class PairConfig:
    """The settings that these models have in common."""

    n_items: int
    """Items in the catalogue, N."""
    n_users: int = 0
    """Users of the log; row 0 of their table is the cold user."""
    n_tags: int = 0
    """Tags of users; 0: the model has no input `user_tags`."""
    max_len: int = 1
    """Events of a history that count: none do, but the graph needs a width."""
    hidden_dim: int = 32
    """Width of the vectors, D."""
    n_negatives: int = 4
    """Items that the user has not taken, drawn anew for every event of every epoch."""
    user_dropout: float = 0.1
    """Share of the training events that are learned as those of a cold user."""

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


# --- models that count


@dataclass(frozen=True)
class NeighbourConfig:
    """How many neighbours, and how a history decays."""

    n_items: int
    """Items in the catalogue, N."""
    max_len: int = 200
    """Newest events of a history that count."""
    history_decay: float | None = 1.0
    """Weight of an event against the one after it, when scoring, d; None: validation chooses."""
    n_neighbours: int = 100
    """Strongest neighbours kept per item, M; the file grows with N * M."""

    def __post_init__(self) -> None:
        check_whole("n_items", self.n_items)
        for name in ("max_len", "n_neighbours"):
            check_size(name, getattr(self, name))
        check_optional("history_decay", self.history_decay, lowest=0)


@dataclass(frozen=True)
class MarkovChainConfig(NeighbourConfig):
    """How far the chain looks and how it forgets."""

    max_len: int = 20
    """Newest events of a history that count."""
    history_decay: float | None = None
    """Weight of an event against the one after it, when scoring, d; None: validation chooses."""
    n_neighbours: int = 200
    """Strongest transitions kept per item, M; the file grows with N * M."""
    window: int = 10
    """Largest distance between two events that counts as a transition."""
    distance_decay: float = 0.7
    """Weight of distance s + 1 against distance s, when counting."""
    popularity_discount: float = 0.25
    """Scores are divided by (n_j + 1) to this power."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("window", self.window)
        for name in ("distance_decay", "popularity_discount"):
            check_number(name, getattr(self, name), lowest=0)


Similarity = Literal["cosine", "bm25"]


@dataclass(frozen=True)
class ItemKNNConfig(NeighbourConfig):
    """What makes two items similar."""

    similarity: Similarity = "bm25"
    """How users that two items share are weighted."""
    k1: float = 1.2
    """BM25: how soon taking the same item again stops counting, K1."""
    b: float = 0.75
    """BM25: how much a frequent item is discounted, B, from 0 to 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("similarity", self.similarity, get_args(Similarity))
        check_number("k1", self.k1, lowest=0)
        check_number("b", self.b, lowest=0, below=1 + 1e-9)


@dataclass(frozen=True)
class EaseConfig(NeighbourConfig):
    """The strength of the regularization, and the memory that the closed form may take."""

    regularization: float | None = None
    """Lambda; None: validation chooses."""
    most_gb: float = 8.0
    """Memory that its N x N matrices may take; a larger catalogue is refused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_optional("regularization", self.regularization, above=0)
        check_number("most_gb", self.most_gb, above=0)


@dataclass(frozen=True)
class ContentBasedConfig(NeighbourConfig):
    """Nothing to set but how a history decays and how many neighbours there are."""

    history_decay: float | None = None
    """Weight of an event against the one after it, when scoring, d; None: validation chooses."""


@dataclass(frozen=True)
class PopularityConfig:
    """Which events are counted."""

    n_items: int
    """Items in the catalogue, N."""
    max_len: int = 1
    """Events of a history that count: none do, but the graph needs a width."""
    last_days: float | None = None
    """Only the newest training events are counted, those of so many days. None: all are."""

    def __post_init__(self) -> None:
        check_whole("n_items", self.n_items)
        check_size("max_len", self.max_len)
        check_optional("last_days", self.last_days, above=0)


@dataclass(frozen=True)
class PersonalFrequencyConfig(PopularityConfig):
    """How much of the history is counted."""

    max_len: int = 1000
    """Newest events of a history that count: meant to be all of it."""


def check_optional(name: str, value: float | None, **bounds: float) -> None:
    """`ValueError` unless `value` is None or a number in the given bounds."""
    if value is not None:
        check_number(name, value, **bounds)


def check_switch(name: str, value: object) -> None:
    """`ValueError` unless `value` is a bool."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be true or false, not {value!r}")
