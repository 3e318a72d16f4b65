"""The registry: one line a model. Nothing outside this folder knows a model by name."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, get_type_hints

from attnrec.train.models.configs import (
    AttentionPoolConfig,
    ContentBasedConfig,
    EaseConfig,
    ItemKNNConfig,
    MarkovChainConfig,
    NeuMFConfig,
    PairConfig,
    PersonalFrequencyConfig,
    PopularityConfig,
    RecencyConfig,
)
from attnrec.train.models.fusion_config import FusionConfig, fusion_recipe

if TYPE_CHECKING:
    from attnrec.train.models.base import RecommenderModel
    from attnrec.train.splits.split import Split

Recipe = Callable[["Split"], Mapping[str, tuple[Any, str]]]
"""Value and reason by name of the setting."""


@dataclass(frozen=True)
class ModelKind:
    """A model that can be trained by name."""

    config: type[Any]
    """Its settings, a frozen dataclass; those without a default follow from the log: `n_items`,
    and where the model has them `n_users`, `n_tags`."""
    source: "type[RecommenderModel] | str"
    """Its class, made from the settings. "file:Name" is one of this folder, imported when it is
    needed: it needs torch, and commands check settings without it."""
    recipe: Recipe | None = None
    """What of its settings and of its training follows from the log."""
    counts: bool = False
    """Of one of this folder, whether it is set in one pass over the log, without epochs."""

    @property
    def model(self) -> "type[RecommenderModel]":
        """Its class."""
        if not isinstance(self.source, str):
            return self.source
        found: type[RecommenderModel] = resolve_name(f"{__name__}.{self.source}")
        return found

    @property
    def learns(self) -> bool:
        """Whether it is trained, epoch by epoch."""
        if isinstance(self.source, str):
            return not self.counts
        from attnrec.train.models.base import LearnedModel

        return issubclass(self.source, LearnedModel)


MODELS: dict[str, ModelKind] = {
    "fusion": ModelKind(FusionConfig, "fusion:Fusion", fusion_recipe),
    "sasrec": ModelKind(RecencyConfig, "sasrec_recency:RecencySASRec"),
    "attention-pool": ModelKind(AttentionPoolConfig, "attention_pool:AttentionPool"),
    "user-item-attention": ModelKind(PairConfig, "user_item_attention:UserItemAttention"),
    "neumf": ModelKind(NeuMFConfig, "neumf:NeuMF"),
    "markov-chain": ModelKind(MarkovChainConfig, "markov_chain:MarkovChain", counts=True),
    "item-knn": ModelKind(ItemKNNConfig, "item_knn:ItemKNN", counts=True),
    "ease": ModelKind(EaseConfig, "ease:Ease", counts=True),
    "content-based": ModelKind(ContentBasedConfig, "content_based:ContentBased", counts=True),
    "personal-frequency": ModelKind(
        PersonalFrequencyConfig, "popularity:PersonalFrequency", counts=True
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
    # By their papers every event counts alike; here validation chooses the history decay.
    "item-knn-decayed": ("item-knn", {"history_decay": None}),
    "ease-decayed": ("ease", {"history_decay": None}),
    "popularity-7-days": ("popularity", {"last_days": 7.0}),
}
"""What a model comparison trains: each model, and its variants, with their settings."""


def model_kind(name: str) -> ModelKind:
    """The model of a name in the registry, or of "package.module:Class".

    Such a class is imported as `python -m` would, the current directory first; its settings are
    the dataclass that it annotates as `config`. `ValueError` where there is none of that.
    """
    if name in MODELS:
        return MODELS[name]
    module_name, colon, class_name = name.partition(":")
    if not (colon and module_name and class_name):
        raise ValueError(
            f"no model {name!r}; there are: {', '.join(MODELS)}; "
            "and a class of your own is given as package.module:Class"
        )
    from attnrec.train.models.base import RecommenderModel

    model = getattr(_imported(module_name, name), class_name, None)
    if model is None:
        raise ValueError(f"model {name!r}: the module {module_name} has no {class_name}")
    if not (isinstance(model, type) and issubclass(model, RecommenderModel)):
        raise ValueError(
            f"model {name!r}: {class_name} is no RecommenderModel; derive the class from "
            "TableModel or ScoreModel of attnrec.train.models.base"
        )
    return ModelKind(_config_of(model, name), model)


def _imported(module_name: str, name: str) -> Any:
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"model {name!r} cannot be imported: {error}; its module is looked for in "
            f"{os.getcwd()} and among the installed packages"
        ) from error


def _config_of(model: "type[RecommenderModel]", name: str) -> type[Any]:
    config = get_type_hints(model).get("config")
    sizes = ("n_items", "max_len")
    if is_dataclass(config) and {*sizes} <= {f.name for f in fields(config)}:
        assert isinstance(config, type)
        return config
    raise ValueError(
        f"model {name!r}: {model.__name__} does not name its settings; write `config: Settings` "
        f"in the class, where Settings is a frozen dataclass with {' and '.join(sizes)}"
    )
