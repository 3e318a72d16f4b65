"""Settings of the models that count, apart from them: commands read these without torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from attnrec.train.checks import check_choice, check_number, check_size, check_whole


@dataclass(frozen=True)
class NeighbourConfig:
    """How many neighbours, and how a history fades."""

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
        if self.history_decay is not None:
            check_number("history_decay", self.history_decay, lowest=0)


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
    """How users that two items share are weighed."""
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
    """How much the closed form is held back, and what it may cost."""

    regularization: float | None = None
    """Lambda; None: validation chooses."""
    most_gb: float = 8.0
    """Memory that its N x N matrices may take; a larger catalogue is refused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.regularization is not None:
            check_number("regularization", self.regularization, above=0)
        check_number("most_gb", self.most_gb, above=0)


@dataclass(frozen=True)
class ContentBasedConfig(NeighbourConfig):
    """Nothing to set but how a history fades and how many neighbours there are."""

    history_decay: float | None = None
    """Weight of an event against the one after it, when scoring, d; None: validation chooses."""


@dataclass(frozen=True)
class PersonalFrequencyConfig:
    """How far back a customer is remembered."""

    n_items: int
    """Items in the catalogue, N."""
    max_len: int = 1000
    """Newest events of a history that count: meant to be all of it."""

    def __post_init__(self) -> None:
        check_whole("n_items", self.n_items)
        check_size("max_len", self.max_len)


@dataclass(frozen=True)
class PopularityConfig:
    """Popularity has nothing to set."""

    n_items: int
    """Items in the catalogue, N."""
    max_len: int = 1
    """Events of a history that count: none do, but the graph wants a width."""

    def __post_init__(self) -> None:
        check_whole("n_items", self.n_items)
        check_size("max_len", self.max_len)
