"""What a run knows of its own quality: the content of `metrics.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from attnrec.train.fitting.state import EpochRecord
from attnrec.train.splits.config import SplitName

Figures = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunMetrics:
    """Held-out figures and the learning curve; None and {}: the run has no such figures."""

    protocol: str
    """How the held-out events were chosen, in words."""
    split: SplitName
    """The same as a setting."""
    time_split: Figures | None = None
    """Of a cut in time: the settings of `TimeSplit`, and when each window begins, in `cuts`."""
    targets_before_training: float | None = None
    """Share of the test targets that are older than a training event of somebody else."""
    later_training_events: float | None = None
    """Share of the training events that are newer than a test target, on average."""
    same_time_targets: float | None = None
    """Share of the held-out events that have the time of the event before."""
    last_session_users: int | None = None
    """Users that the split "last-session" would evaluate, where it suits the log."""
    valid: Figures
    """Validation figures of the model as it is kept, as `Metrics.to_json` names them."""
    best_epoch: int | None
    """The epoch whose weights are kept; None for a model without epochs."""
    epochs: Sequence[EpochRecord] = ()
    """The learning curve."""
    recipe: Mapping[str, str] = field(default_factory=dict)
    """Why the settings that follow from the log or from validation have their values, by name."""
    tuning: Figures | None = None
    """The search that found the settings."""
    of: str | None = None
    """Of a final run, one with another catalogue, or with newer events: which model the figures
    belong to."""
    catalogue: Figures | None = None
    """Of a run with another catalogue: how many items of each kind it has."""
    newer: Figures | None = None
    """Of a run that newer events were counted for: how many there are, and until when."""
    init_from: Figures | None = None
    """Of a run that began from another one: its name, what it had seen, and the items from it."""
    test: Figures | None = None
    """Of a final run: test figures of the file of the held-out run."""
    held_out_epochs: Sequence[EpochRecord] | None = None
    """Of a final run: the learning curve of the held-out run."""
    report: Figures | None = None
    """What the run report shows beyond this, as `report_figures` makes it."""

    @property
    def validated_epochs(self) -> Sequence[EpochRecord]:
        """The learning curve that has validation figures."""
        return self.epochs if self.held_out_epochs is None else self.held_out_epochs

    def to_json(self) -> dict[str, Any]:
        """A plain dict without what is not there."""
        values = asdict(self)
        always = {"best_epoch", "epochs"}
        return {n: v for n, v in values.items() if n in always or v not in (None, {})}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "RunMetrics":
        """The metrics that `to_json` described; `TypeError` for names that are not known."""
        records = {
            name: [EpochRecord(**record) for record in values[name]]
            for name in ("epochs", "held_out_epochs")
            if name in values
        }
        return cls(**{**values, **records})

    def __getitem__(self, name: str) -> Any:
        """An entry of `metrics.json`."""
        return self.to_json()[name]
