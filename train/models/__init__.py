"""The registry: one line a model. Nothing outside this folder knows a model by name."""

from dataclasses import dataclass

from attnrec.train.models.markov_chain import MarkovChain, MarkovChainConfig
from attnrec.train.models.personal_frequency import PersonalFrequency, PersonalFrequencyConfig
from attnrec.train.models.popularity import Popularity, PopularityConfig
from attnrec.train.models.protocol import RecommenderModel
from attnrec.train.models.sasrec import SASRec, SASRecConfig

ModelConfig = SASRecConfig | MarkovChainConfig | PersonalFrequencyConfig | PopularityConfig


@dataclass(frozen=True)
class ModelKind:
    """A model that can be trained by name."""

    config: type[ModelConfig]
    """Its settings; `n_items` is the only one without a default."""
    model: type[RecommenderModel]
    """Its module, made from the settings."""


MODELS: dict[str, ModelKind] = {
    "sasrec": ModelKind(SASRecConfig, SASRec),
    "markov-chain": ModelKind(MarkovChainConfig, MarkovChain),
    "personal-frequency": ModelKind(PersonalFrequencyConfig, PersonalFrequency),
    "popularity": ModelKind(PopularityConfig, Popularity),
}
