"""The registry: one line a model. Nothing outside this folder knows a model by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from attnrec.train.models.counted_configs import (
    ContentBasedConfig,
    EaseConfig,
    ItemKNNConfig,
    MarkovChainConfig,
    PersonalFrequencyConfig,
    PopularityConfig,
)
from attnrec.train.models.learned_configs import (
    AttentionPoolConfig,
    FusionConfig,
    NeuMFConfig,
    PairConfig,
    SASRecConfig,
)

if TYPE_CHECKING:
    from attnrec.train.data.split import Split
    from attnrec.train.models.base import RecommenderModel

Recipe = Callable[["Split"], Mapping[str, tuple[Any, str]]]
"""Value and reason by name of the setting."""


@dataclass(frozen=True)
class ModelKind:
    """A model that can be trained by name."""

    config: type[Any]
    """Its settings, a frozen dataclass; those without a default follow from the log: `n_items`,
    and where the model has them `n_users`, `n_tags`."""
    made_by: "type[RecommenderModel] | str"
    """Its module, made from the settings. "file:Name" is one of this folder, imported when it is
    asked for: it needs torch, and commands check settings without it."""
    ruled_by: "Recipe | str | None" = None
    """What of its settings and of its training follows from the log; likewise."""
    counts: bool = False
    """Of one of this folder, whether it is set in one pass over the log, without epochs."""

    @property
    def model(self) -> "type[RecommenderModel]":
        """Its module."""
        model: type[RecommenderModel] = _found(self.made_by)
        return model

    @property
    def recipe(self) -> Recipe | None:
        """What of its settings and of its training follows from the log."""
        recipe: Recipe | None = _found(self.ruled_by)
        return recipe

    @property
    def learns(self) -> bool:
        """Whether it is trained, epoch by epoch."""
        if isinstance(self.made_by, str):
            return not self.counts
        from attnrec.train.models.base import LearnedModel

        return issubclass(self.made_by, LearnedModel)


def _found(what: Any) -> Any:
    return resolve_name(f"{__name__}.{what}") if isinstance(what, str) else what


MODELS: dict[str, ModelKind] = {
    "fusion": ModelKind(FusionConfig, "fusion:Fusion", "fusion_recipe:fusion_recipe"),
    "sasrec": ModelKind(SASRecConfig, "sasrec:SASRec"),
    "attention-pool": ModelKind(AttentionPoolConfig, "attention_pool:AttentionPool"),
    "user-item-attention": ModelKind(PairConfig, "user_item_attention:UserItemAttention"),
    "neumf": ModelKind(NeuMFConfig, "neumf:NeuMF"),
    "markov-chain": ModelKind(MarkovChainConfig, "markov_chain:MarkovChain", counts=True),
    "item-knn": ModelKind(ItemKNNConfig, "item_knn:ItemKNN", counts=True),
    "ease": ModelKind(EaseConfig, "ease:Ease", counts=True),
    "content-based": ModelKind(ContentBasedConfig, "content_based:ContentBased", counts=True),
    "personal-frequency": ModelKind(
        PersonalFrequencyConfig, "personal_frequency:PersonalFrequency", counts=True
    ),
    "popularity": ModelKind(PopularityConfig, "popularity:Popularity", counts=True),
}

COMPARED_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "sasrec": ("sasrec", {}),
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
"""What a model comparison trains: each model, and its variants, with their settings."""
