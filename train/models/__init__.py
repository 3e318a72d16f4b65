"""The registry: one line a model. Nothing outside this folder knows a model by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from attnrec.train.models.attention_pool import AttentionPool, AttentionPoolConfig
from attnrec.train.models.content_based import ContentBased, ContentBasedConfig
from attnrec.train.models.ease import Ease, EaseConfig
from attnrec.train.models.fusion import Fusion, FusionConfig
from attnrec.train.models.fusion_recipe import fusion_recipe
from attnrec.train.models.item_knn import ItemKNN, ItemKNNConfig
from attnrec.train.models.markov_chain import MarkovChain, MarkovChainConfig
from attnrec.train.models.neumf import NeuMF, NeuMFConfig
from attnrec.train.models.pair_model import PairConfig
from attnrec.train.models.personal_frequency import PersonalFrequency, PersonalFrequencyConfig
from attnrec.train.models.popularity import Popularity, PopularityConfig
from attnrec.train.models.protocol import RecommenderModel
from attnrec.train.models.sasrec import SASRec, SASRecConfig
from attnrec.train.models.user_item_attention import UserItemAttention
from attnrec.train.split import Split

Recipe = Callable[[Split], Mapping[str, tuple[Any, str]]]
"""Value and reason by name of the setting."""


@dataclass(frozen=True)
class ModelKind:
    """A model that can be trained by name."""

    config: type[Any]
    """Its settings, a frozen dataclass; those without a default follow from the log: `n_items`,
    and where the model has them `n_users`, `n_tags`."""
    model: type[RecommenderModel]
    """Its module, made from the settings."""
    recipe: Recipe | None = None
    """What of its settings and of its training follows from the log."""


MODELS: dict[str, ModelKind] = {
    "fusion": ModelKind(FusionConfig, Fusion, fusion_recipe),
    "sasrec": ModelKind(SASRecConfig, SASRec),
    "attention-pool": ModelKind(AttentionPoolConfig, AttentionPool),
    "user-item-attention": ModelKind(PairConfig, UserItemAttention),
    "neumf": ModelKind(NeuMFConfig, NeuMF),
    "markov-chain": ModelKind(MarkovChainConfig, MarkovChain),
    "item-knn": ModelKind(ItemKNNConfig, ItemKNN),
    "ease": ModelKind(EaseConfig, Ease),
    "content-based": ModelKind(ContentBasedConfig, ContentBased),
    "personal-frequency": ModelKind(PersonalFrequencyConfig, PersonalFrequency),
    "popularity": ModelKind(PopularityConfig, Popularity),
}

FAMILY: dict[str, tuple[str, dict[str, Any]]] = {
    "sasrec": ("sasrec", {}),
    "sasrec-ligr": ("sasrec", {"block": "ligr"}),
    "sasrec-time-gaps": ("sasrec", {"time_gaps": True}),
    **{
        f"attention-pool-{form}": ("attention-pool", {"attention": form})
        for form in ("dot", "additive", "self", "multi-head")
    },
    **{name: (name, {}) for name in MODELS if name not in ("sasrec", "attention-pool")},
    # As they are known, every event counts alike; validation may let old ones fade.
    "item-knn-fading": ("item-knn", {"history_decay": None}),
    "ease-fading": ("ease", {"history_decay": None}),
}
"""What `--model all` trains and compares: each model, and its variants, with their settings."""
