"""The faults that an exporter can have, and which models can have them.

They are put into the exporter; the torch model that the gate compares with is never touched.

Each is seeded into every model that can have it:

- The id map in is noticed in every model: at the latest, another item is excluded.
- Later rows come first only where scores are equal, so all weights are 0 there.
- A history does not count for popularity, nor for models of pairs, which use the user alone.
- A ScoreModel has no states, so none of an earlier event.
- Without the causal mask older positions of sasrec attend as well; the one query of attention-pool
  is that of the newest event, which may see all.
- A wrong epsilon needs a norm; that of F.normalize only guards a zero.
"""

from collections.abc import Callable
from dataclasses import dataclass

import exporter_faults as faults
import onnx_ir as ir

from attnrec.train.models.base import RecommenderModel, TableModel
from attnrec.train.models.pair_model import PairModel
from attnrec.train.models.popularity import Popularity
from attnrec.train.models.sasrec import SASRec

Patch = faults.Patch


@dataclass(frozen=True)
class Fault:
    """Something wrong with the exporter: its head, its body, or the model that it exports."""

    name: str
    """For the name of the test."""
    head: Callable[[Patch], None] | None = None
    body: Callable[[ir.Model], None] | None = None
    model: Callable[[RecommenderModel], RecommenderModel] | None = None
    of: Callable[[type[RecommenderModel]], bool] = lambda kind: True
    """Models that can have it."""
    variant: str = ""
    """The one compared model that it is seeded into; empty: all such models."""
    clause: str = "a score is off by"
    """The clause that the gate names."""
    level: bool = False
    """Seeded into a model with the same score for every item."""


def history_counts(kind: type[RecommenderModel]) -> bool:
    return not issubclass(kind, PairModel | Popularity)


def is_table(kind: type[RecommenderModel]) -> bool:
    return issubclass(kind, TableModel)


def is_sasrec(kind: type[RecommenderModel]) -> bool:
    return issubclass(kind, SASRec)


def has_users(kind: type[RecommenderModel]) -> bool:
    return issubclass(kind, PairModel)


def weighs_events(kind: type[RecommenderModel]) -> bool:
    return issubclass(kind, TableModel) and kind.has_attention


TIMED = "sasrec-time-gaps"
NOT_ALLOWED = "an item that may not be returned, or one twice"
FAULTS = [
    Fault("id map off by one, in", faults.ids_shifted_on_the_way_in, clause=""),
    Fault("id map off by one, out", faults.ids_shifted_on_the_way_out, clause=""),
    Fault("exclude ignored", faults.exclude_ignored, clause=NOT_ALLOWED),
    Fault("candidates ignored", faults.candidates_ignored, clause=NOT_ALLOWED),
    Fault("later rows first", faults.later_rows_first, clause="not in order", level=True),
    Fault("one weight off", body=faults.one_weight_off),
    Fault("last event dropped", faults.last_event_dropped, of=history_counts),
    Fault("padding leak", body=faults.padding_visible, of=history_counts),
    Fault("state of the event before", body=faults.state_of_the_event_before, of=is_table),
    Fault("causal mask off", model=faults.causal_mask_off, variant="sasrec"),
    Fault("wrong norm epsilon", body=faults.wrong_epsilon, of=is_sasrec),
    Fault("user map off by one", faults.users_shifted, of=has_users),
    Fault("given tags ignored", faults.given_tags_ignored, of=has_users),
    Fault("stored tags ignored", faults.stored_tags_ignored, of=has_users),
    Fault("request time ignored", body=faults.request_time_ignored, variant=TIMED),
    Fault("times of other events", body=faults.times_of_other_events, variant=TIMED),
    Fault(
        "attention turned around",
        body=faults.attention_of_older_events,
        of=weighs_events,
        clause="attention is not that of the model",
    ),
]
