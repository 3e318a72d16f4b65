"""How a model is trained: the settings of `attnrec-train` as one value."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_type_hints

from attnrec.train.checks import check_choice, check_number, check_size, check_whole
from attnrec.train.models import model_kind
from attnrec.train.splits.config import SplitBy, SplitName, TimeSplit

if TYPE_CHECKING:
    from attnrec.train.models.base import HistoryConfig
    from attnrec.train.splits.split import Split


Precision = Literal["float32", "bfloat16"]


class Schedule(NamedTuple):
    """How long it is trained."""

    epochs: int = 10
    """Most passes over the training events."""
    batch_events: int = 800
    """Events of one step."""
    patience: int = 3
    """Epochs without a better validation NDCG@10 before training stops."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the weights, apart from the data."""

    model: str = "fusion"
    """Name in the registry, or package.module:Class."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the model that differ from its defaults, such as {"max_len": 100}."""
    split: SplitBy = "leave-one-out"
    """What is held out for validation and test; "time" is `TimeSplit()`."""
    epochs: int | None = None
    """Most passes over the training events; the learning rate falls over them. None: chosen from
    the log by the recipe of the model, else 10."""
    learning_rate: float = 3e-3
    """Peak learning rate of AdamW, after a warm-up over the first 4 % of the steps."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices and item vectors; biases, norms, `recency` and the tables
    of the time bias do not decay."""
    batch_events: int | None = None
    """Events in a batch. None: chosen from the log by the recipe of the model, else 800."""
    patience: int | None = None
    """Epochs without a better validation NDCG@10 before training stops. None: chosen by the recipe
    of the model, else 3."""
    max_minutes: float | None = None
    """Training ends within this time, its last validation and the choice of weights included, also
    within an epoch; the learning rate falls over it. None: no limit."""
    seed: int = 0
    """Seed of the first weights, of dropout and of the order of the data."""
    threads: int | None = None
    """Threads of torch; None: as many as torch is set to."""
    precision: Precision | None = None
    """Of matrix products in training; weights, norms and losses stay float32. None: bfloat16 on a
    GPU that computes with it, else float32."""

    def __post_init__(self) -> None:
        model_kind(self.model)
        if self.split == "time":
            object.__setattr__(self, "split", TimeSplit())
        known = get_args(SplitName)
        if not isinstance(self.split, TimeSplit) and self.split not in known:
            raise ValueError(f"no split {self.split!r}; there are: {', '.join(known)}")
        for name in (*Schedule._fields, "threads"):
            if getattr(self, name) is not None:
                check_size(name, getattr(self, name))
        if self.precision is not None:
            check_choice("precision", self.precision, get_args(Precision))
        check_whole("seed", self.seed, 0, 2**63 - 1)
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("weight_decay", self.weight_decay, lowest=0)
        if self.max_minutes is not None:
            check_number("max_minutes", self.max_minutes, above=0)
        self._check_settings()

    def _check_settings(self) -> None:
        known = {f.name for f in fields(model_kind(self.model).config)}
        known -= {"n_items", "n_users", "n_tags"}
        for name in self.settings:
            if name not in known:
                raise ValueError(
                    f"model {self.model} has no setting `{name}`; it has: "
                    f"{', '.join(sorted(known))}"
                )
        # Wrong values are refused before a log is read.
        check_size("max_len", self.model_config(n_items=1).max_len)

    @property
    def schedule(self) -> "Schedule":
        """How long it is trained, with defaults for None."""
        given = {name: getattr(self, name) for name in Schedule._fields}
        return Schedule(**{name: value for name, value in given.items() if value is not None})

    def with_recipe(self, split: "Split") -> "tuple[TrainConfig, dict[str, str]]":
        """With missing settings chosen by the recipe of the model; and the reasons."""
        recipe = model_kind(self.model).recipe
        found = {} if recipe is None else recipe(split)
        settings, schedule = dict(self.settings), dict[str, Any]()
        reasons = {}
        for name, (value, reason) in found.items():
            is_schedule = name in Schedule._fields
            if name in settings or (is_schedule and getattr(self, name) is not None):
                continue
            (schedule if is_schedule else settings)[name] = value
            reasons[name] = reason
        return replace(self, settings=settings, **schedule), reasons

    def model_config(self, n_items: int, n_users: int = 0, n_tags: int = 0) -> "HistoryConfig":
        """The model's own configuration for a log of that size."""
        kind = model_kind(self.model).config
        sizes = {"n_items": n_items, "n_users": n_users, "n_tags": n_tags}
        known = {f.name for f in fields(kind)}
        values: dict[str, Any] = {name: n for name, n in sizes.items() if name in known}
        made: HistoryConfig = kind(**values, **self.settings)
        return made

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The configuration that `to_json` described."""
        if isinstance(split := values["split"], Mapping):
            values = {**values, "split": TimeSplit(**split)}
        return cls(**values)


def parse_settings(model: str, assignments: Iterable[str]) -> dict[str, Any]:
    """Settings of a model from texts like "max_len=100", each read as the type of its field.

    A value of another type stays text: `TrainConfig` refuses it, and unknown names, with the
    remedy. `ValueError` for a text without "=" and for a name given twice.
    """
    assignments = tuple(assignments)
    types = get_type_hints(model_kind(model).config) if assignments else {}
    settings: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"a setting is given as NAME=VALUE, not {assignment!r}")
        if name in settings:
            raise ValueError(f"`{name}` is given twice; leave one out")
        settings[name] = _parse(value, types.get(name, str))
    return settings


def _parse(value: str, kind: Any) -> Any:
    kinds = get_args(kind) or (kind,)  # float | None -> (float, None)
    words = {"true": (True, bool), "false": (False, bool), "none": (None, type(None))}
    word = words.get(value.lower())
    if word is not None and word[1] in kinds:
        return word[0]
    for number in (int, float):
        if number in kinds:
            try:
                return number(value)
            except ValueError:
                continue
    return value


def value_text(value: object) -> str:
    """A value as it would be given on the command line."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ",".join(f"{name}={value_text(entry)}" for name, entry in value.items()) or "none"
    if isinstance(value, tuple | list):
        return ",".join(map(value_text, value)) or "none"
    return str(value)
