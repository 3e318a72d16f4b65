"""How a model is trained: the settings of `attnrec-train` as one value."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from attnrec.train.models import MODELS, ModelConfig


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the weights, beside the data."""

    model: str = "sasrec"
    """Name in the registry."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the model that differ from its defaults, such as {"max_len": 100}."""
    epochs: int = 10
    """Most passes over the training events; the learning rate falls to zero over them."""
    learning_rate: float = 3e-3
    """Peak learning rate of AdamW, after a warm-up over the first 4 % of the steps."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    batch_events: int = 800
    """Events of one step: small, because early on the number of steps is what counts."""
    patience: int = 3
    """Epochs without a better validation NDCG@10 before training stops."""
    max_minutes: float | None = None
    """Training stops after the epoch that passes this time; None: no limit."""
    seed: int = 0
    """Seed of weights, dropout and the order of the data."""
    threads: int | None = None
    """Threads of torch; None: as many as it chooses."""

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"no model {self.model!r}; there are: {', '.join(MODELS)}")
        for name in ("epochs", "batch_events", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.max_minutes is not None and self.max_minutes <= 0:
            raise ValueError(f"max_minutes must be above 0, not {self.max_minutes}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {self.threads}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be from 0 to 2^63 - 1, not {self.seed}")
        known = {f.name for f in fields(MODELS[self.model].config)} - {"n_items"}
        for name in self.settings:
            if name not in known:
                raise ValueError(
                    f"model {self.model} has no setting {name}; it has: {', '.join(sorted(known))}"
                )

    def model_config(self, n_items: int) -> ModelConfig:
        """The model's own configuration for a catalogue of `n_items`."""
        return MODELS[self.model].config(n_items=n_items, **self.settings)

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The configuration that `to_json` described."""
        return cls(**values)
